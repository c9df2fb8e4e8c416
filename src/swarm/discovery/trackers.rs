//! Announces this machine on trackers under the topics of its channels, and learns who else follows them.
//!
//! A tracker sees one info hash per channel, never a NAR: `SHA-1(channel public key || channel name)`.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::stream::{self, StreamExt};
use librqbit_core::hash_id::Id20;
use librqbit_tracker_comms::{
    TorrentStatsProvider, TrackerComms, TrackerCommsStats, TrackerCommsStatsState, UdpTrackerClient,
};
use reqwest::Client;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::torrent::InfoHash;

use super::http_tracker::{self, HttpTracker};
use super::peers::{PeerBook, PeerOrigin};
use super::plain_http;
use crate::swarm::networks::own_addresses;
use crate::swarm::protocol::announce_client::Query;
use crate::swarm::share::{Share, SharePolicy};

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

const UDP: &str = "udp";

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
        let http =
            plain_http::client(http_tracker::ANSWER_TIMEOUT).map_err(std::io::Error::other)?;
        let udp = match trackers.iter().any(|url| url.scheme() == UDP) {
            true => self.udp_client(&running).await,
            false => None,
        };
        let key = rand::random();
        for url in &trackers {
            for topic in topics {
                let query = Query {
                    info_hash: *topic,
                    peer_id: self.peer_id,
                    port: self.port,
                    key,
                };
                match (url.scheme(), &udp) {
                    (UDP, Some(udp)) => self.start_udp(url, query, udp, &http, &running),
                    ("http" | "https", _) => self.start_http(url, query, &http, &running),
                    (scheme, _) => tracing::debug!(scheme, "a tracker that cannot be asked"),
                }
            }
        }
        Ok(())
    }

    /// librqbit's binds to `[::]`: without IPv6 in the kernel there is none.
    async fn udp_client(&self, running: &CancellationToken) -> Option<UdpTrackerClient> {
        let client = UdpTrackerClient::new(running.clone(), None).await;
        client
            .inspect_err(|error| tracing::warn!("UDP trackers are not asked: {error:#}"))
            .ok()
    }

    fn start_http(&self, url: &Url, query: Query, http: &Client, running: &CancellationToken) {
        let tracker = HttpTracker {
            url: url.clone(),
            query,
            client: http.clone(),
            found: self.found(url),
        };
        let ended = tracker.run(running.clone(), self.stop.clone());
        self.tasks.spawn(ended);
    }

    /// librqbit's own bounds do over UDP: the peers of one datagram, and at least 5 s between two announces.
    fn start_udp(
        &self,
        url: &Url,
        query: Query,
        udp: &UdpTrackerClient,
        http: &Client,
        running: &CancellationToken,
    ) {
        let found = TrackerComms::start(
            Id20::new(*query.info_hash.as_bytes()),
            Id20::new(query.peer_id),
            HashSet::from([url.clone()]),
            Box::new(WantsAll),
            None,
            query.port,
            http.clone(),
            udp.clone(),
        );
        let (tracker_peers, running) = (self.found(url), running.clone());
        self.tasks.spawn(async move {
            let listen = async {
                let mut found = stream::iter(found).flatten();
                while let Some(peer) = found.next().await {
                    tracker_peers.add(peer);
                }
            };
            running.run_until_cancelled(listen).await
        });
    }

    fn found(&self, url: &Url) -> TrackerPeers {
        TrackerPeers {
            peers: self.peers.clone(),
            policy: self.policy.clone(),
            port: self.port,
            tracker: literal(url),
        }
    }

    /// With `share = "lan"` only a tracker whose literal address is in the LAN may know of us; with `off` none.
    fn allows(&self, url: &Url) -> bool {
        let address = literal(url);
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

/// Where the peers go that one tracker names.
pub struct TrackerPeers {
    pub peers: Arc<PeerBook>,
    pub policy: Arc<SharePolicy>,
    /// Our own.
    pub port: u16,
    /// Where the tracker is, as far as its URL says it.
    pub tracker: Option<IpAddr>,
}

impl TrackerPeers {
    pub fn add(&self, peer: SocketAddr) {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        if self.believes(peer.ip()) && !is_ourselves(peer, self.port) {
            self.peers.add(peer, PeerOrigin::Tracker);
        }
    }

    /// One that is named by a name may be anywhere.
    fn believes(&self, peer: IpAddr) -> bool {
        match self.tracker {
            Some(tracker) => self.policy.may_tell(tracker, peer),
            None => !self.policy.is_confined(peer),
        }
    }
}

/// The address that stands in the URL itself. In a udp: URL the url crate takes it for a name.
fn literal(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_matches(['[', ']']).parse().ok()
}

/// Trackers also tell us of our own announce.
fn is_ourselves(address: SocketAddr, port: u16) -> bool {
    address.port() == port && own_addresses().contains(&address.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::discovery::lab::HttpServer;

    #[test]
    fn addresses_in_urls() {
        let case = |url: &str, expected: Option<&str>| {
            let expected = expected.map(|address| address.parse().unwrap());
            assert_eq!(literal(&url.parse().unwrap()), expected, "{url}");
        };
        case("http://192.0.2.1:6969/announce", Some("192.0.2.1"));
        case("udp://192.0.2.1:6969", Some("192.0.2.1"));
        case("https://[2001:db8::1]/announce", Some("2001:db8::1"));
        case("udp://[2001:db8::1]:6969", Some("2001:db8::1"));
        case("http://localhost/announce", None);
        case("http://192.0.2.1@tracker.example/", None);
    }

    /// A tracker that is named by a name may be anywhere.
    #[tokio::test]
    async fn only_a_tracker_of_the_lan_names_what_is_there() {
        const ANSWER: &[u8] = b"d8:intervali60e5:peers12:\x7f\0\0\x01\0A\xcb\0\x71\x01\0A6:peers618:\0\0\0\0\0\0\0\0\0\0\xff\xff\x0a\0\0\x01\0Ae";
        let case = async |host: &str, expected: &[&str]| {
            let server = HttpServer::start(|_| HttpServer::ok(ANSWER)).await;
            let peers = Arc::new(PeerBook::default());
            let announcer = Announcer {
                peers: peers.clone(),
                policy: Arc::new(SharePolicy::new(Share::Public, vec![])),
                peer_id: [1; 20],
                port: 1,
                tasks: TaskTracker::new(),
                stop: CancellationToken::new(),
                running: Mutex::default(),
            };
            let url = format!("http://{host}:{}/announce", server.address.port());
            let (url, topic) = (url.parse().unwrap(), InfoHash::from_bytes([7; 20]));
            let mut changes = peers.changes();
            announcer.announce(&[url], &[topic]).await.unwrap();
            // They are added one after the other, without a pause.
            changes.changed().await.unwrap();
            let mut known = peers.dialable();
            known.sort();
            let expected: Vec<SocketAddr> =
                expected.iter().map(|peer| peer.parse().unwrap()).collect();
            assert_eq!(known, expected, "{host}");
            announcer.stop.cancel();
        };
        case("localhost", &["203.0.113.1:65"]).await;
        case(
            "127.0.0.1",
            &["10.0.0.1:65", "127.0.0.1:65", "203.0.113.1:65"],
        )
        .await;
    }
}
