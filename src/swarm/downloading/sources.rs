//! Whom a download asks: first those who say that they have the payload, then a few of whom nothing is known.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::torrent::InfoHash;

use crate::swarm::discovery::PeerBook;
use crate::swarm::gossip::Gossip;

/// Peers beside the known holders that are tried as well: gossip may be new, or told of a stock client nothing.
const OTHERS: usize = 6;

pub struct Sources {
    peers: Arc<PeerBook>,
    gossip: Arc<Gossip>,
}

/// Peers by what is known of them and one payload, the best first.
pub struct Ranked {
    /// They are said to have it.
    pub whole: Vec<SocketAddr>,
    /// They are said to be downloading it.
    pub getting: Vec<SocketAddr>,
    /// They are said to have it, and nobody could reach them.
    pub doubtful: Vec<SocketAddr>,
    /// They have not said that they lack it.
    pub strangers: Vec<SocketAddr>,
    /// A few that have said so; but what a machine says is some seconds old.
    pub last_resort: Vec<SocketAddr>,
}

/// Wakes whoever waits for more sources.
pub struct SourceChanges {
    peers: watch::Receiver<u64>,
    gossip: watch::Receiver<u64>,
}

impl SourceChanges {
    /// Returns false when there will be no more.
    pub async fn changed(&mut self) -> bool {
        tokio::select! {
            changed = self.peers.changed() => changed.is_ok(),
            changed = self.gossip.changed() => changed.is_ok(),
        }
    }
}

impl Sources {
    pub fn new(peers: Arc<PeerBook>, gossip: Arc<Gossip>) -> Self {
        Self { peers, gossip }
    }

    pub fn peers(&self) -> &Arc<PeerBook> {
        &self.peers
    }

    pub fn gossip(&self) -> &Arc<Gossip> {
        &self.gossip
    }

    /// Whether there is anybody to ask.
    pub fn has_any(&self) -> bool {
        !self.peers.is_empty() || self.gossip.has_neighbours()
    }

    /// Whom to ask for this payload of so many pieces, the best first.
    pub fn of(&self, info_hash: &InfoHash, piece_count: u32) -> Vec<SocketAddr> {
        let Ranked {
            whole,
            mut getting,
            doubtful,
            strangers,
            last_resort,
        } = self.ranked(info_hash);
        let others = match whole.is_empty() && getting.is_empty() {
            true => usize::MAX,
            false => OTHERS,
        };
        // Whoever is downloading a single piece has nothing to give yet.
        if piece_count == 1 && !whole.is_empty() {
            getting.clear();
        }
        let strangers = strangers.into_iter().take(others);
        let said = whole.into_iter().chain(getting).chain(doubtful);
        let peers: Vec<SocketAddr> = said.chain(strangers).collect();
        match peers.is_empty() {
            true => last_resort,
            false => peers,
        }
    }

    /// The same in its parts, with all strangers.
    pub fn ranked(&self, info_hash: &InfoHash) -> Ranked {
        let mut said = self.gossip.holders(info_hash);
        self.peers.rank(&mut said.whole);
        self.peers.rank(&mut said.getting);
        let holders = said.whole.iter().chain(&said.getting);
        let known: HashSet<&SocketAddr> = holders.chain(&said.doubtful).collect();
        let mut others = self.peers.candidates();
        others.retain(|peer| !known.contains(peer));
        let lacking = self.gossip.lacking(info_hash);
        let (mut last_resort, strangers): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|peer| lacking.contains(peer));
        last_resort.truncate(OTHERS);
        Ranked {
            whole: said.whole,
            getting: said.getting,
            doubtful: said.doubtful,
            strangers,
            last_resort,
        }
    }

    pub fn changes(&self) -> SourceChanges {
        SourceChanges {
            peers: self.peers.changes(),
            gossip: self.gossip.changes(),
        }
    }

    /// Whether somebody is said to have it; `Gossip::seek` finds out more.
    pub fn has_holders(&self, info_hash: &InfoHash) -> bool {
        !self.gossip.holders(info_hash).is_empty()
    }

    /// Whether somebody is said to be downloading it.
    pub fn is_being_fetched(&self, info_hash: &InfoHash) -> bool {
        !self.gossip.holders(info_hash).getting.is_empty()
    }

    /// Whether a peer that answers may have it, as far as it has said.
    pub fn may_have(&self, info_hash: &InfoHash) -> bool {
        let answers = self.peers.reached();
        let lacking = self.gossip.lacking(info_hash);
        answers.iter().any(|peer| !lacking.contains(peer))
            || (!answers.is_empty() && self.gossip.is_asking(info_hash))
    }
}
