//! Who delivers in one download, and who only said so: librqbit's figures, passed on to those who rank peers.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use librqbit::ManagedTorrent;

use crate::torrent::InfoHash;

use super::sources::Sources;

/// librqbit's filter for peers in any state.
const ALL_STATES: &str = r#"{"state":"all"}"#;

pub struct Witness {
    info_hash: InfoHash,
    sources: Arc<Sources>,
    /// Each peer is judged once in a download.
    judged: HashSet<SocketAddr>,
}

impl Witness {
    pub fn new(info_hash: InfoHash, sources: Arc<Sources>) -> Self {
        Self {
            info_hash,
            sources,
            judged: HashSet::new(),
        }
    }

    /// Judges the peers of whom something is known by now.
    pub fn look(&mut self, download: &ManagedTorrent) {
        let Some(live) = download.live() else {
            return;
        };
        // The filter's type has no public name; its default leaves out the dead peers, of whom there is most to learn.
        let Ok(all) = serde_json::from_str(ALL_STATES) else {
            return;
        };
        for (address, stats) in live.per_peer_stats_snapshot(all).peers {
            let Ok(address) = address.parse::<SocketAddr>() else {
                continue;
            };
            let seen = &stats.counters;
            let delivered = seen.downloaded_and_checked_pieces > 0;
            let failed = seen.errors > 0 && seen.fetched_bytes == 0;
            if !(delivered || failed) || !self.judged.insert(address) {
                continue;
            }
            let connected = seen.connections > 0;
            self.sources.peers().saw(address, connected);
            let gossip = self.sources.gossip();
            match delivered {
                true => gossip.delivered(&self.info_hash, &address),
                false if connected => gossip.disappointed(&self.info_hash, &address),
                false => {}
            }
        }
    }
}
