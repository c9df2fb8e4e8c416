//! One member of a crowd: what it has, what it was shown, and what its connections were told.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::torrent::Bitfield;

use super::crowd::Joining;

/// Addresses in one PEX message (BEP 11).
const MAX_TOLD: usize = 50;
/// And in all of them for one connection: more than it could connect to.
const TOLD_IN_ALL: usize = 500;

/// A machine that downloads, whatever number of connections it has.
pub struct Member {
    pub machine: IpAddr,
    /// Whether those who are not are told nothing of it.
    pub near: bool,
    pub lines: HashMap<u64, Line>,
    pub has: Bitfield,
    pub shown: Bitfield,
    /// Shown pieces that nobody else is known to have got yet.
    pub open: Vec<u32>,
    /// Open pieces that were sent.
    pub sent: HashSet<u32>,
    /// How many are shown at a time, and how often it waited since the last one was.
    pub window: usize,
    pub waits: u32,
    pub address: Option<SocketAddr>,
}

/// One connection of it.
pub struct Line {
    pub wake: Arc<Notify>,
    pub paced: bool,
    pub companion: bool,
    pub pending: Vec<u32>,
    /// Whether it wants PEX, and how often.
    pub pex: Option<Duration>,
    pub told: HashSet<SocketAddr>,
    pub told_at: Option<Instant>,
}

impl Member {
    pub fn new(joining: Joining, piece_count: u32, window: usize) -> Self {
        Self {
            machine: joining.machine,
            near: joining.near,
            lines: HashMap::new(),
            has: Bitfield::new(piece_count),
            shown: Bitfield::new(piece_count),
            open: vec![],
            sent: HashSet::new(),
            window,
            waits: 0,
            address: None,
        }
    }

    /// Whether it is shown pieces one by one.
    pub fn paced(&self) -> bool {
        self.lines
            .values()
            .any(|line| line.paced && !line.companion)
    }

    pub fn show(&mut self, piece: u32) {
        self.shown.set(piece);
        self.open.push(piece);
        self.waits = 0;
        for line in self.lines.values_mut().filter(|line| line.paced) {
            line.pending.push(piece);
            line.wake.notify_one();
        }
    }

    /// Whether all that is open has arrived. Of one that never says so, what was sent counts.
    pub fn has_open(&self) -> bool {
        let silent = self.has.ones() == 0;
        let arrived = |piece: &u32| self.has.get(*piece) || (silent && self.sent.contains(piece));
        self.open.iter().all(arrived)
    }

    /// Returns whether the piece was open.
    pub fn close(&mut self, piece: u32) -> bool {
        self.sent.remove(&piece);
        let before = self.open.len();
        self.open.retain(|open| *open != piece);
        self.open.len() < before
    }
}

impl Line {
    /// Those of the others that it was not told of yet, if it is time to tell it anything.
    pub fn untold(
        &mut self,
        others: impl Iterator<Item = SocketAddr>,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let due = match (self.pex, self.told_at) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(interval), Some(at)) => now.duration_since(at) >= interval,
        };
        if !due || self.told.len() >= TOLD_IN_ALL {
            return vec![];
        }
        let fresh = others.filter(|peer| !self.told.contains(peer));
        let peers: Vec<SocketAddr> = fresh.take(MAX_TOLD).collect();
        self.told.extend(peers.iter().copied());
        if !peers.is_empty() {
            self.told_at = Some(now);
        }
        peers
    }
}
