//! The agent as its own HTTP tracker on loopback: the one way to give librqbit peers while a download runs.
//!
//! librqbit announces each download here and asks again after each answer. The answer is held until there is a peer
//! that this download was not told of, and is always 200, because after a failure librqbit backs off for 10 s or more.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::torrent::InfoHash;

use super::sources::Sources;

/// An answer without news: below every client's and proxy's idea of a dead request.
const HOLD: Duration = Duration::from_secs(50);
/// librqbit sleeps this long between an answer and its next question.
pub const POLL: Duration = Duration::from_secs(1);

/// Peers that one download is told of: each costs a connection.
const MAX_TOLD: usize = 160;

/// What a tracker answers (BEP 3), peers in compact form (BEP 23, BEP 7).
#[derive(Serialize)]
struct Answer {
    interval: u64,
    #[serde(with = "serde_bytes")]
    peers: Vec<u8>,
    #[serde(with = "serde_bytes")]
    peers6: Vec<u8>,
}

pub struct LocalTracker {
    sources: Arc<Sources>,
    /// Per running download, whom it was told of.
    told: Mutex<HashMap<InfoHash, HashSet<SocketAddr>>>,
    address: SocketAddr,
}

impl LocalTracker {
    /// Binds a free loopback port and serves until `stop`.
    pub async fn start(sources: Arc<Sources>, stop: CancellationToken) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tracker = Arc::new(Self {
            sources,
            told: Mutex::default(),
            address: listener.local_addr()?,
        });
        tokio::spawn(tracker.clone().serve(listener, stop));
        Ok(tracker)
    }

    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// A download begins, already knowing `initial`; nothing else is answered for.
    pub fn register(&self, info_hash: InfoHash, initial: &[SocketAddr]) {
        self.told()
            .insert(info_hash, initial.iter().copied().collect());
    }

    pub fn forget(&self, info_hash: &InfoHash) {
        self.told().remove(info_hash);
    }

    async fn serve(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => { tokio::time::sleep(POLL).await; continue }
                },
            };
            let (tracker, stop) = (self.clone(), stop.clone());
            tokio::spawn(async move {
                let service = service_fn(|request| tracker.answer(request));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = connection => {}
                }
            });
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let peers = match request.uri().query().and_then(info_hash_of) {
            Some(info_hash) => self.news(info_hash).await,
            None => Vec::new(),
        };
        let mut answer = Answer {
            interval: POLL.as_secs(),
            peers: Vec::new(),
            peers6: Vec::new(),
        };
        for peer in peers {
            match peer {
                SocketAddr::V4(v4) => {
                    answer.peers.extend(v4.ip().octets());
                    answer.peers.extend(v4.port().to_be_bytes());
                }
                SocketAddr::V6(v6) => {
                    answer.peers6.extend(v6.ip().octets());
                    answer.peers6.extend(v6.port().to_be_bytes());
                }
            }
        }
        let body = serde_bencode::to_bytes(&answer).unwrap_or_else(|_| b"d8:intervali1ee".to_vec());
        Ok(Response::new(Full::new(Bytes::from(body))))
    }

    /// Waits for peers that this download does not know yet.
    async fn news(&self, info_hash: InfoHash) -> Vec<SocketAddr> {
        let mut changes = self.sources.changes();
        let wait = async {
            loop {
                let candidates = self.sources.of(&info_hash);
                match self.told().get_mut(&info_hash) {
                    None => return Vec::new(),
                    Some(told) => {
                        let room = MAX_TOLD.saturating_sub(told.len());
                        let fresh: Vec<SocketAddr> = candidates
                            .into_iter()
                            .filter(|peer| !told.contains(peer))
                            .take(room)
                            .collect();
                        told.extend(&fresh);
                        if !fresh.is_empty() {
                            return fresh;
                        }
                    }
                }
                if !changes.changed().await {
                    return Vec::new();
                }
            }
        };
        tokio::time::timeout(HOLD, wait).await.unwrap_or_default()
    }

    fn told(&self) -> std::sync::MutexGuard<'_, HashMap<InfoHash, HashSet<SocketAddr>>> {
        self.told.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The percent-encoded `info_hash` of an announce.
fn info_hash_of(query: &str) -> Option<InfoHash> {
    let value = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("info_hash="))?;
    let bytes: Vec<u8> = percent_encoding::percent_decode_str(value).collect();
    bytes.try_into().ok().map(InfoHash::from_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::gossip;
    use crate::swarm::peers::PeerOrigin;

    async fn announce(tracker: &LocalTracker, info_hash: InfoHash) -> String {
        let encoded = percent_encoding::percent_encode(
            info_hash.as_bytes(),
            percent_encoding::NON_ALPHANUMERIC,
        );
        let url = format!("{}?info_hash={encoded}&port=1", tracker.url());
        let response = reqwest::get(url).await.unwrap();
        assert!(response.status().is_success());
        String::from_utf8_lossy(&response.bytes().await.unwrap()).into_owned()
    }

    #[tokio::test]
    async fn an_answer_waits_for_a_new_peer() {
        let place = tempfile::tempdir().unwrap();
        let (peers, gossip) = gossip::lab::alone(place.path());
        let sources = Arc::new(Sources::new(peers.clone(), gossip));
        let tracker = LocalTracker::start(sources, CancellationToken::new())
            .await
            .unwrap();
        let info_hash = InfoHash::from_bytes([0xfe; 20]);
        assert!(
            announce(&tracker, info_hash).await.contains("5:peers0:"),
            "an unknown download is answered at once"
        );
        let old = "192.0.2.1:6881".parse().unwrap();
        peers.add(old, PeerOrigin::Config);
        tracker.register(info_hash, &[old]);
        let waiting = announce(&tracker, info_hash);
        let add = async {
            tokio::task::yield_now().await;
            peers.add("192.0.2.2:65".parse().unwrap(), PeerOrigin::Tracker);
            peers.add("[2001:db8::1]:66".parse().unwrap(), PeerOrigin::Tracker);
        };
        let (answer, ()) = tokio::join!(waiting, add);
        assert!(
            answer.contains("\0A") || answer.contains("\0B"),
            "{answer:?}"
        );
    }
}
