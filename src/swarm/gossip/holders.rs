//! What downloads ask of gossip, and what they tell it: who has a payload, and who turned out to have it.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::swarm::protocol::Incoming;
use crate::swarm::seeding::CROWD_PIECES;
use crate::torrent::{InfoDict, InfoHash};

use super::Gossip;
use super::message::Message;
use super::neighbour::{Neighbour, Way};
use super::questions::ANSWER_TIMEOUT;

/// Holders asked to connect to us for one payload.
const DIAL_BACKS: usize = 4;

/// Who has a payload, as far as the neighbours say.
#[derive(Default)]
pub struct Holders {
    /// They have all of it.
    pub whole: Vec<SocketAddr>,
    /// They are downloading it.
    pub getting: Vec<SocketAddr>,
    /// They are said to have it, and nobody could reach them.
    pub doubtful: Vec<SocketAddr>,
    /// Neighbours that have it and would have to connect to us.
    pub behind: usize,
}

impl Holders {
    pub fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.getting.is_empty() && self.behind == 0
    }
}

impl Gossip {
    /// Changes whenever somebody may have something that nobody had before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    /// Asks the neighbours for holders of a payload, so that `holders` knows more of them soon.
    pub fn seek(&self, info_hash: InfoHash) {
        self.questions.seek(info_hash);
    }

    pub fn has_neighbours(&self) -> bool {
        self.topics().iter().any(|topic| topic.count() > 0)
    }

    /// Who has a payload.
    pub fn holders(&self, info_hash: &InfoHash) -> Holders {
        let mut holders = Holders::default();
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            for neighbour in topic.neighbours() {
                let list = match (neighbour.has(&rows), neighbour.is_getting(&rows)) {
                    (true, _) => &mut holders.whole,
                    (_, true) => &mut holders.getting,
                    _ => continue,
                };
                match neighbour.way() {
                    Way::Direct(address) => list.push(address),
                    Way::DialBack => holders.behind += 1,
                    Way::Closed => {}
                }
            }
        }
        for found in self.questions.found(info_hash) {
            match found.open {
                true => holders.whole.push(found.address),
                false => holders.doubtful.push(found.address),
            }
        }
        let mut seen = HashSet::new();
        let lists = [
            &mut holders.whole,
            &mut holders.getting,
            &mut holders.doubtful,
        ];
        for list in lists {
            list.retain(|address| !self.peers.is_banned(*address) && seen.insert(*address));
        }
        holders
    }

    /// How many other machines say that they have all of a payload, if it is large enough for a crowd.
    pub fn count_holders(&self, info_hash: &InfoHash, piece_count: u32) -> usize {
        if piece_count < CROWD_PIECES {
            return 0;
        }
        let holders = self.holders(info_hash);
        holders.whole.len() + holders.behind
    }

    /// The neighbours that would have said so, had they this payload.
    pub fn lacking(&self, info_hash: &InfoHash) -> HashSet<SocketAddr> {
        let mut lacking = HashSet::new();
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            let neighbours = topic.neighbours();
            let without = neighbours.iter().filter(|n| n.lacks(&rows));
            lacking.extend(without.filter_map(|n| n.contact()));
        }
        lacking
    }

    /// Whether neighbours may still say who has this payload: they were asked, or have only just come.
    pub fn is_asking(&self, info_hash: &InfoHash) -> bool {
        self.questions.is_asking(info_hash)
            || self.topics().iter().any(|topic| {
                let rows = topic.layers().rows_of(info_hash);
                let neighbours = topic.neighbours();
                let mut fresh = neighbours
                    .iter()
                    .filter(|n| n.since.elapsed() < ANSWER_TIMEOUT);
                !rows.is_empty() && fresh.any(|n| !n.has_told(&rows))
            })
    }

    /// The info dict of a payload from a neighbour, if one has it and answers.
    pub async fn info(&self, info_hash: InfoHash) -> Option<Arc<InfoDict>> {
        let mut news = self.changes();
        loop {
            if let Ok(info) = self.questions.want_info(info_hash).await {
                return Some(info);
            }
            if !self.is_asking(&info_hash) {
                return None;
            }
            tokio::select! {
                changed = news.changed() => changed.ok()?,
                () = tokio::time::sleep(ANSWER_TIMEOUT) => {}
            }
        }
    }

    /// Asks neighbours that have a payload and cannot be reached to connect to us.
    pub fn ask_dial_backs(&self, info_hash: &InfoHash) {
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            let mut left = DIAL_BACKS;
            for neighbour in topic.neighbours() {
                let row = rows.iter().find(|row| neighbour.has(&[**row]));
                if let Some((layer, row)) = row.copied()
                    && neighbour.way() == Way::DialBack
                    && !neighbour.mute
                    && left > 0
                {
                    left -= 1;
                    self.dial_backs.expect(*info_hash, &neighbour);
                    neighbour.tell(Message::DialBack { layer, row });
                }
            }
        }
    }

    /// A neighbour connects because it was asked to: librqbit takes it from here.
    pub async fn dialled_back(
        &self,
        neighbour: &Neighbour,
        peer: Incoming,
        info_hash: &InfoHash,
    ) -> io::Result<()> {
        let bytes = self.dial_backs.splice(neighbour.address.ip(), peer).await?;
        tracing::debug!(neighbour = %neighbour.address, %info_hash, bytes, "a holder dialled back");
        if bytes > 0 {
            neighbour.kept_its_word();
        }
        Ok(())
    }

    /// A peer sent good bytes of this payload.
    pub fn delivered(&self, info_hash: &InfoHash, address: &SocketAddr) {
        for neighbour in self.vouchers(info_hash, address) {
            neighbour.kept_its_word();
        }
    }

    /// A peer that is said to have this payload hung up without a byte of it. Whoever said so is believed less.
    pub fn disappointed(&self, info_hash: &InfoHash, address: &SocketAddr) {
        for neighbour in self.vouchers(info_hash, address) {
            if neighbour.broke_its_word() {
                tracing::info!(neighbour = %neighbour.address, "a neighbour names what is not there; it is left alone for a while");
                self.ban(&neighbour);
            }
        }
        self.questions.strike(info_hash, address);
    }

    /// The neighbours whose word it is that `address` has this payload.
    fn vouchers(&self, info_hash: &InfoHash, address: &SocketAddr) -> Vec<Arc<Neighbour>> {
        let told_by = self.questions.told_by(info_hash, address);
        let mut vouchers = Vec::new();
        for topic in self.topics() {
            let rows = topic.layers().rows_of(info_hash);
            vouchers.extend(topic.neighbours().into_iter().filter(|n| {
                Some(n.id) == told_by || (n.contact() == Some(*address) && n.has(&rows))
            }));
        }
        vouchers
    }
}
