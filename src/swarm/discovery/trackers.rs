//! Announces this machine on trackers under the topics of its channels, and learns who else follows them.
//!
//! A tracker sees one info hash per channel, never a NAR: `SHA-1(channel public key || channel name)`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::StreamExt;
use librqbit_core::hash_id::Id20;
use librqbit_tracker_comms::{
    TorrentStatsProvider, TrackerComms, TrackerCommsStats, TrackerCommsStatsState, UdpTrackerClient,
};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::torrent::InfoHash;

use super::peers::{PeerBook, PeerOrigin};
use crate::swarm::share::{Share, SharePolicy};

/// A tracker that has not answered in full by then does not.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// Trackers give seeds no other seeds; whoever still wants something is told of everybody.
struct WantsAll;

impl TorrentStatsProvider for WantsAll {
    fn get(&self) -> TrackerCommsStats {
        TrackerCommsStats {
            total_bytes: 1,
            torrent_state: TrackerCommsStatsState::Live,
            ..TrackerCommsStats::default()
        }
    }
}

/// What announcing needs beside the trackers.
pub struct Announcer {
    pub peers: Arc<PeerBook>,
    pub policy: Arc<SharePolicy>,
    pub peer_id: [u8; 20],
    pub port: u16,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    /// Ends what was started last.
    pub running: Mutex<CancellationToken>,
}

impl Announcer {
    /// Announces each topic on each tracker that `share` allows, until it is called again or the program stops.
    pub async fn announce(&self, trackers: &[Url], topics: &[InfoHash]) -> std::io::Result<()> {
        let trackers: HashSet<Url> = trackers
            .iter()
            .filter(|url| self.allows(url))
            .cloned()
            .collect();
        let running = self.stop.child_token();
        std::mem::replace(
            &mut *self.running.lock().unwrap_or_else(PoisonError::into_inner),
            running.clone(),
        )
        .cancel();
        if trackers.is_empty() || topics.is_empty() {
            return Ok(());
        }
        let udp = UdpTrackerClient::new(running.clone(), None)
            .await
            .map_err(std::io::Error::other)?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(ANSWER_TIMEOUT)
            .build()
            .map_err(std::io::Error::other)?;
        for topic in topics {
            let found = TrackerComms::start(
                Id20::new(*topic.as_bytes()),
                Id20::new(self.peer_id),
                trackers.clone(),
                Box::new(WantsAll),
                None,
                self.port,
                http.clone(),
                udp.clone(),
            );
            if let Some(mut found) = found {
                let (peers, stop, port) = (self.peers.clone(), running.clone(), self.port);
                self.tasks.spawn(async move {
                    let listen = async {
                        while let Some(address) = found.next().await {
                            if !is_ourselves(address, port) {
                                peers.add(address, PeerOrigin::Tracker);
                            }
                        }
                    };
                    tokio::select! {
                        () = stop.cancelled() => {}
                        () = listen => {}
                    }
                });
            }
        }
        Ok(())
    }

    /// With `share = "lan"` only a tracker whose literal address is in the LAN may know of us; with `off` none.
    fn allows(&self, url: &Url) -> bool {
        // In a udp: URL the url crate takes an address for a name.
        let address = url
            .host_str()
            .and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        let allowed = match address {
            Some(address) => self.policy.allows(SocketAddr::new(address, 0)),
            None => self.policy.share() == Share::Public,
        };
        if !allowed {
            tracing::info!(tracker = %url, share = self.policy.share().as_str(), "not announced there: not within what is shared");
        }
        allowed
    }
}

/// Trackers also tell us of our own announce.
fn is_ourselves(address: SocketAddr, port: u16) -> bool {
    let own = || if_addrs::get_if_addrs().unwrap_or_default();
    address.port() == port && own().iter().any(|interface| interface.ip() == address.ip())
}
