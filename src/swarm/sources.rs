//! Whom a download asks: first those who say that they have the payload, then a few of whom nothing is known.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::torrent::InfoHash;

use super::gossip::Gossip;
use super::peers::PeerBook;

/// Peers beside the known holders that are tried as well: gossip may be new, or told of a stock client nothing.
const OTHERS: usize = 6;

const OVERDUE_CHECK: Duration = Duration::from_millis(200);

pub struct Sources {
    peers: Arc<PeerBook>,
    gossip: Arc<Gossip>,
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

    /// Whom to ask for this payload, the best first.
    pub fn of(&self, info_hash: &InfoHash) -> Vec<SocketAddr> {
        let mut holders = self.gossip.holders(info_hash);
        self.peers.rank(&mut holders.whole);
        self.peers.rank(&mut holders.getting);
        let mut sources = holders.whole;
        sources.extend(holders.getting);
        let others = match sources.is_empty() {
            true => usize::MAX,
            false => OTHERS,
        };
        sources.extend(holders.doubtful);
        let known: HashSet<SocketAddr> = sources.iter().copied().collect();
        let strangers = self.peers.candidates().into_iter();
        let strangers =
            strangers.filter(|peer| !known.contains(peer) && !self.gossip.lacks(peer, info_hash));
        sources.extend(strangers.take(others));
        sources
    }

    /// The same as soon as there is somebody to ask, or nobody from whom an answer might come.
    pub async fn wait(&self, info_hash: &InfoHash) -> Vec<SocketAddr> {
        let mut changes = self.changes();
        let found = async {
            loop {
                let sources = self.of(info_hash);
                if !sources.is_empty() || !self.gossip.is_asking(info_hash) {
                    return sources;
                }
                tokio::select! {
                    more = changes.changed() => if !more { return sources },
                    // Nobody tells when an answer is overdue.
                    () = tokio::time::sleep(OVERDUE_CHECK) => {}
                }
            }
        };
        found.await
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

    /// Whether a peer that answers may have it, as far as it has said.
    pub fn may_have(&self, info_hash: &InfoHash) -> bool {
        let answers = self.peers.reached();
        let mut open = answers
            .iter()
            .filter(|peer| !self.gossip.lacks(peer, info_hash));
        open.next().is_some() || (!answers.is_empty() && self.gossip.is_asking(info_hash))
    }
}
