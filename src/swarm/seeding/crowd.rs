//! The downloaders of one payload as its seeder sees them: who has which pieces, whom to show which, who is where.
//!
//! **Super-seeding** (BEP 16). A seeder that is alone, or nearly, shows each downloader a few pieces at a time, the
//! rarest first and none to more than two, and the next ones when another downloader has got them: so each piece leaves
//! it once or twice, and the downloaders have something to trade. One that has all it was shown, and waits, is shown
//! more, twice as many each time until what it has spreads again: a crowd that does not trade is not held back. A single
//! downloader is shown enough never to wait. When enough others have it all, as this seeder has seen or heard, newcomers
//! see everything.
//!
//! Nothing here does I/O: `Crowds` owns these, and its lines (connections) act on `News`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::swarm::protocol::PeerId;
use crate::torrent::Bitfield;

use super::crowd_member::{Line, Member};
use super::rarity::Rarity;

/// Pieces shown at a time while they spread: measured best with 256 KiB pieces at 20 to 40 Mbit/s.
const FEW: usize = 3;
/// Members that see the same piece before anybody waits: of a payload with few pieces, each would go to many otherwise.
const SHOWN_TO: u16 = 2;
/// The most that are shown at a time to one that waits.
const MANY: usize = 64;
/// What a single downloader sees ahead: 8 MiB, more than fits into any link.
const ALONE: usize = 32;
/// Others with everything, from which on this seeder is one of many.
const ENOUGH_SEEDS: usize = 3;
/// After so many waits in vain something else is shown: what was shown may come from elsewhere.
const VAIN_WAITS: u32 = 4;
/// BEP 11 asks for one message a minute. Ours are told at once: a crowd forms in seconds.
const STRANGERS_PEX_INTERVAL: Duration = Duration::from_secs(60);

/// A machine that downloads: several connections of it count as one.
pub type Who = (IpAddr, PeerId);

/// What a connection should do now.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Pieces to say HAVE of.
    pub shown: Vec<u32>,
    /// Peers to tell of.
    pub peers: Vec<SocketAddr>,
    /// Whether several machines download: then few requests should be in flight.
    pub crowded: bool,
}

/// How a connection joins.
#[derive(Debug, Clone, Copy)]
pub struct Joining {
    /// What counts as one, whatever number of peer ids it has.
    pub machine: IpAddr,
    /// Whether those who are not are told nothing of it.
    pub near: bool,
    /// Whether this side has everything, and may show it piece by piece.
    pub whole: bool,
    /// Other machines that are said to have everything.
    pub holders: usize,
    /// Whether the other side only talks, and downloads on another connection.
    pub companion: bool,
    /// Whether the other side copes with pieces that are shown one by one.
    pub patient: bool,
}

pub struct Crowd {
    piece_count: u32,
    rarity: Rarity,
    members: HashMap<Who, Member>,
    /// Machines that were seen with everything, as many as count.
    seeds: HashSet<IpAddr>,
}

impl Crowd {
    pub fn new(piece_count: u32, offset: u32) -> Self {
        Self {
            piece_count,
            rarity: Rarity::new(piece_count, offset),
            members: HashMap::new(),
            seeds: HashSet::new(),
        }
    }

    /// A connection begins. Returns what it may see at first, or `None` when that is everything.
    pub fn join(
        &mut self,
        who: Who,
        line: u64,
        joining: Joining,
        wake: Arc<Notify>,
    ) -> Option<Bitfield> {
        // Those that were seen with everything are most likely those that say so.
        let seeds = self.seeds.len().max(joining.holders);
        let paced = joining.whole && joining.patient && seeds < ENOUGH_SEEDS;
        let member = self
            .members
            .entry(who)
            .or_insert_with(|| Member::new(joining, self.piece_count, FEW));
        let newcomer = member.lines.is_empty();
        member.lines.insert(
            line,
            Line {
                wake,
                paced,
                companion: joining.companion,
                pending: vec![],
                pex: None,
                told: HashSet::new(),
                told_at: None,
            },
        );
        if newcomer && self.downloaders() == 2 {
            self.wake_all();
        }
        if !paced {
            return None;
        }
        self.show(who);
        let member = self.members.get_mut(&who)?;
        if let Some(line) = member.lines.get_mut(&line) {
            line.pending.clear();
        }
        Some(member.shown.clone())
    }

    /// A connection ended. Returns whether nobody is left.
    pub fn leave(&mut self, who: Who, line: u64) -> bool {
        if let Some(member) = self.members.get_mut(&who) {
            member.lines.remove(&line);
            if member.lines.is_empty()
                && let Some(gone) = self.members.remove(&who)
            {
                self.rarity.left(&gone.has, &gone.shown);
            }
        }
        self.members.is_empty()
    }

    /// The member has these pieces, it says.
    pub fn has(&mut self, who: Who, pieces: impl IntoIterator<Item = u32>) {
        let alone = self.downloaders() < 2;
        let mut closed = HashSet::new();
        for piece in pieces {
            let Some(member) = self.members.get_mut(&who) else {
                return;
            };
            if !member.has.set(piece) {
                continue;
            }
            self.rarity.got(piece);
            for (other, member) in &mut self.members {
                if (*other != who || alone) && member.close(piece) {
                    member.window = FEW;
                    closed.insert(*other);
                }
            }
        }
        if let Some(seed) = self.members.get(&who).filter(|m| m.has.is_full())
            && self.seeds.len() < ENOUGH_SEEDS
        {
            self.seeds.insert(seed.machine);
        }
        closed.into_iter().for_each(|who| self.show(who));
    }

    /// A piece left for this member.
    pub fn sent(&mut self, who: Who, piece: u32) {
        let alone = self.downloaders() < 2;
        if let Some(member) = self.members.get_mut(&who) {
            if alone {
                member.close(piece);
            } else if member.open.contains(&piece) {
                member.sent.insert(piece);
            }
        }
        if alone {
            self.show(who);
        }
    }

    /// The member asked for nothing in a while.
    pub fn waited(&mut self, who: Who) {
        let Some(member) = self.members.get_mut(&who) else {
            return;
        };
        member.waits += 1;
        if member.has_open() {
            member.window = (member.window * 2).min(MANY);
        } else if member.waits < VAIN_WAITS {
            return;
        }
        let more = member.window;
        self.show_up_to(who, usize::MAX, more, u16::MAX);
    }

    /// Where the member is reached, and whether this connection of it wants to know of others.
    pub fn introduce(&mut self, who: Who, line: u64, port: Option<u16>, pex: bool, ours: bool) {
        let Some(member) = self.members.get_mut(&who) else {
            return;
        };
        let before = member.address;
        if let Some(port) = port {
            // Another one each time would have us tell everybody of each.
            member.address.get_or_insert(SocketAddr::new(who.0, port));
        }
        let is_new = member.address != before;
        if let Some(line) = member.lines.get_mut(&line)
            && pex
        {
            let interval = match ours {
                true => Duration::ZERO,
                false => STRANGERS_PEX_INTERVAL,
            };
            if line.pex.replace(interval).is_none() {
                line.wake.notify_one();
            }
        }
        if is_new {
            self.wake_all();
        }
    }

    /// Where members are reached.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.members.values().filter_map(|member| member.address)
    }

    /// What this connection should do.
    pub fn news(&mut self, who: Who, line: u64, now: Instant) -> News {
        let crowded = self.downloaders() >= 2;
        let near = self.members.get(&who).is_some_and(|member| member.near);
        let others: Vec<SocketAddr> = self
            .members
            .iter()
            .filter(|(other, member)| **other != who && (near || !member.near))
            .filter_map(|(_, member)| member.address)
            .collect();
        let line = self
            .members
            .get_mut(&who)
            .and_then(|m| m.lines.get_mut(&line));
        let Some(line) = line else {
            return News::default();
        };
        let peers = line.untold(others.into_iter(), now);
        News {
            shown: std::mem::take(&mut line.pending),
            peers,
            crowded,
        }
    }

    /// Whether there is something left to show to this member.
    pub fn hides(&self, who: Who) -> bool {
        self.members
            .get(&who)
            .is_some_and(|member| member.paced() && !member.shown.is_full())
    }

    fn downloaders(&self) -> usize {
        self.members
            .values()
            .filter(|member| !member.has.is_full())
            .count()
    }

    fn wake_all(&self) {
        let lines = self.members.values().flat_map(|m| m.lines.values());
        lines.for_each(|line| line.wake.notify_one());
    }

    fn show(&mut self, who: Who) {
        let (open, shown_to) = match self.downloaders() < 2 {
            true => (ALONE, u16::MAX),
            false => (FEW, SHOWN_TO),
        };
        self.show_up_to(who, open, MANY, shown_to);
        // A stock client that sees nothing does not even say that it wants something.
        if self.members.get(&who).is_some_and(|m| m.shown.ones() == 0) {
            self.show_up_to(who, 1, 1, u16::MAX);
        }
    }

    /// Shows until `open` pieces are open, but at most `more`, and none that as many as `shown_to` see already.
    fn show_up_to(&mut self, who: Who, open: usize, more: usize, shown_to: u16) {
        let alone = self.downloaders() < 2;
        for _ in 0..more {
            let Some(member) = self.members.get(&who) else {
                return;
            };
            if member.open.len() >= open || !member.paced() {
                return;
            }
            let mut hidden = (0..self.piece_count)
                .filter(|p| !member.has.get(*p) && !member.shown.get(*p))
                .filter(|p| self.rarity.shown(*p) < shown_to);
            let next = match alone {
                true => hidden.next(),
                false => self.rarity.rarest(hidden),
            };
            let Some(piece) = next else {
                return;
            };
            self.rarity.showed(piece);
            if let Some(member) = self.members.get_mut(&who) {
                member.show(piece);
            }
        }
    }
}

#[cfg(test)]
mod tests;
