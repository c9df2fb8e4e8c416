//! The agent as its own HTTP tracker on loopback: the one way to give librqbit peers while a download runs.
//!
//! librqbit announces each download here and asks again after each answer. The answer is held until there is a peer
//! that this download was not told of, and is always 200, because after a failure librqbit backs off for 10 s or more.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::torrent::InfoHash;

use super::sources::Sources;
use crate::swarm::protocol::announce::{self, Announce};
use crate::swarm::seeding::CROWD_PIECES;
use crate::swarm::share::SharePolicy;

/// An answer without news: below every client's and proxy's idea of a dead request.
const HOLD: Duration = Duration::from_secs(50);
/// librqbit sleeps this long between an answer and its next question.
pub const POLL: Duration = Duration::from_millis(250);

/// Peers that one download is told of: each costs a connection.
const MAX_TOLD: usize = 160;
/// Those of which one machine tells: it may have invented them.
const MAX_FROM_ONE: usize = MAX_TOLD / 2;
/// Those that it starts with.
const MAX_FIRST: usize = 80;
/// A small payload is there before many could be of use: it starts with so many, and hears of so many more a second.
const FEW_FIRST: usize = 6;
const MORE_A_SECOND: f64 = 8.0;
/// How often it is looked whether it may hear of more.
const ROOM_CHECK: Duration = Duration::from_millis(250);
/// In a crowd gossip has news all the time: after a few looks, what comes in between is found by the same one.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
const QUICK_LOOKS: usize = 5;

/// What a running download knows.
struct Known {
    told: HashSet<SocketAddr>,
    /// Found for this download alone, not told yet.
    fresh: Vec<SocketAddr>,
    /// How many of them each machine told of.
    from: HashMap<IpAddr, usize>,
    piece_count: u32,
    since: Instant,
}

impl Known {
    fn of(piece_count: u32) -> Self {
        Self {
            told: HashSet::new(),
            fresh: vec![],
            from: HashMap::new(),
            piece_count,
            since: Instant::now(),
        }
    }

    /// Notes peers of which a machine tells.
    fn hear(&mut self, from: IpAddr, peers: &[SocketAddr]) {
        let its = self.from.entry(from).or_default();
        for peer in peers {
            let new = !self.told.contains(peer) && !self.fresh.contains(peer);
            // Told are no more either.
            if new && *its < MAX_FROM_ONE && self.fresh.len() < MAX_TOLD {
                self.fresh.push(*peer);
                *its += 1;
            }
        }
    }

    /// Takes those that it may hear of now: first candidates, of whom we know, and then whom others tell of.
    fn take(&mut self, candidates: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let room = self.room();
        let mut news: Vec<SocketAddr> = candidates
            .into_iter()
            .filter(|peer| !self.told.contains(peer))
            .take(room)
            .collect();
        self.told.extend(&news);
        self.fresh.retain(|peer| !self.told.contains(peer));
        let more = self.fresh.len().min(room - news.len());
        news.extend(self.fresh.drain(..more));
        self.told.extend(&news);
        news
    }

    /// How many more it may be told of now.
    fn room(&self) -> usize {
        let may = match self.piece_count < CROWD_PIECES {
            true => FEW_FIRST + (self.since.elapsed().as_secs_f64() * MORE_A_SECOND) as usize,
            false => MAX_TOLD,
        };
        may.min(MAX_TOLD).saturating_sub(self.told.len())
    }
}

/// What there is to tell a download.
enum Untold {
    Peers(Vec<SocketAddr>),
    Nobody,
    /// It is to be looked again in a while.
    NoRoom,
    Ended,
}

pub struct LocalTracker {
    sources: Arc<Sources>,
    policy: Arc<SharePolicy>,
    downloads: Mutex<HashMap<InfoHash, Known>>,
    /// Wakes those who wait for peers of one download.
    found: Notify,
    address: SocketAddr,
}

impl LocalTracker {
    /// Binds a free loopback port and serves until `stop`.
    pub async fn start(
        sources: Arc<Sources>,
        policy: Arc<SharePolicy>,
        stop: CancellationToken,
    ) -> io::Result<Arc<Self>> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let tracker = Arc::new(Self {
            sources,
            policy,
            downloads: Mutex::default(),
            found: Notify::new(),
            address: listener.local_addr()?,
        });
        tokio::spawn(tracker.clone().serve(listener, stop));
        Ok(tracker)
    }

    pub fn url(&self) -> String {
        format!("http://{}/announce", self.address)
    }

    /// A download begins, with the peers that are returned; nothing else is answered for.
    pub fn begin(&self, info_hash: InfoHash, piece_count: u32) -> Vec<SocketAddr> {
        let mut known = Known::of(piece_count);
        let mut peers = self.sources.of(&info_hash, piece_count);
        peers.truncate(known.room().min(MAX_FIRST));
        known.told.extend(&peers);
        self.downloads().insert(info_hash, known);
        peers
    }

    /// Peers of this download alone of which the one at `from` tells, beside those that `Sources` knows. Returns those of
    /// which it can know.
    pub fn tell(
        &self,
        info_hash: &InfoHash,
        from: IpAddr,
        mut peers: Vec<SocketAddr>,
    ) -> Vec<SocketAddr> {
        peers.retain(|peer| self.policy.may_tell(from, peer.ip()));
        if let Some(known) = self.downloads().get_mut(info_hash) {
            known.hear(self.policy.machine_of(from), &peers);
            self.found.notify_waiters();
        }
        peers
    }

    pub fn forget(&self, info_hash: &InfoHash) {
        self.downloads().remove(info_hash);
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
        let announce = request.uri().query().and_then(Announce::parse);
        let peers = match announce {
            Some(announce) => self.news(announce.info_hash).await,
            None => Vec::new(),
        };
        let body = announce::answer(POLL.as_secs().max(1), &peers);
        Ok(Response::new(Full::new(Bytes::from(body))))
    }

    /// Waits for peers that this download does not know yet.
    async fn news(&self, info_hash: InfoHash) -> Vec<SocketAddr> {
        let mut changes = self.sources.changes();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let wait = async {
            for looks in 0.. {
                if looks >= QUICK_LOOKS {
                    look.tick().await;
                }
                let found = self.found.notified();
                let waits = match self.untold(&info_hash) {
                    Untold::Ended => break,
                    Untold::Peers(peers) => return peers,
                    Untold::Nobody => false,
                    Untold::NoRoom => true,
                };
                tokio::select! {
                    more = changes.changed() => if !more { break },
                    () = found => {}
                    () = tokio::time::sleep(ROOM_CHECK), if waits => {}
                }
            }
            Vec::new()
        };
        tokio::time::timeout(HOLD, wait).await.unwrap_or_default()
    }

    /// Takes the peers that this download may hear of now, and was not told of.
    fn untold(&self, info_hash: &InfoHash) -> Untold {
        let piece_count = match self.downloads().get(info_hash) {
            None => return Untold::Ended,
            Some(known) if known.room() == 0 => return Untold::NoRoom,
            Some(known) => known.piece_count,
        };
        let candidates = self.sources.of(info_hash, piece_count);
        let mut downloads = self.downloads();
        let Some(known) = downloads.get_mut(info_hash) else {
            return Untold::Ended;
        };
        let news = known.take(candidates);
        match news.is_empty() {
            true => Untold::Nobody,
            false => Untold::Peers(news),
        }
    }

    fn downloads(&self) -> std::sync::MutexGuard<'_, HashMap<InfoHash, Known>> {
        self.downloads.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::discovery::{PeerBook, PeerOrigin};
    use crate::swarm::gossip;
    use crate::swarm::share::Share;

    /// It knows nobody yet.
    async fn lonely(place: &std::path::Path) -> (Arc<PeerBook>, Arc<LocalTracker>) {
        let (peers, gossip) = gossip::lab::alone(place);
        let sources = Arc::new(Sources::new(peers.clone(), gossip));
        let policy = Arc::new(SharePolicy::new(Share::Public, vec![]));
        let tracker = LocalTracker::start(sources, policy, CancellationToken::new());
        (peers, tracker.await.unwrap())
    }

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
    async fn one_peer_tells_of_few_and_of_none_that_are_closed_to_it() {
        let place = tempfile::tempdir().unwrap();
        let (peers, tracker) = lonely(place.path()).await;
        let info_hash = InfoHash::from_bytes([0xfe; 20]);
        tracker.begin(info_hash, CROWD_PIECES);
        let address = |i: u8| SocketAddr::from(([203, 0, 113, i], 6881));
        let (liar, honest) = (address(1).ip(), address(2).ip());
        let ours = ["127.0.0.1:6881", "192.168.7.7:6881"].map(|peer| peer.parse().unwrap());
        assert!(tracker.tell(&info_hash, liar, ours.to_vec()).is_empty());
        assert!(matches!(tracker.untold(&info_hash), Untold::Nobody));
        tracker.tell(&info_hash, liar, (10..250).map(address).collect());
        tracker.tell(&info_hash, honest, vec![address(3)]);
        peers.add(address(4), PeerOrigin::Config);
        let Untold::Peers(told) = tracker.untold(&info_hash) else {
            unreachable!()
        };
        assert_eq!(told.len(), MAX_FROM_ONE + 2);
        assert_eq!((told[0], told.last()), (address(4), Some(&address(3))));
    }

    /// Nothing else wakes it: its room grows with time.
    #[tokio::test]
    async fn a_small_download_hears_of_few_and_soon_of_more() {
        let place = tempfile::tempdir().unwrap();
        let (peers, tracker) = lonely(place.path()).await;
        for host in 1..=20 {
            peers.add(([192, 0, 2, host], 6881).into(), PeerOrigin::Config);
        }
        let info_hash = InfoHash::from_bytes([0xfe; 20]);
        assert_eq!(tracker.begin(info_hash, 1).len(), FEW_FIRST);
        assert!(matches!(tracker.untold(&info_hash), Untold::NoRoom));
        let more = tokio::time::timeout(HOLD / 2, tracker.news(info_hash)).await;
        assert!((1..20 - FEW_FIRST).contains(&more.unwrap().len()));
        tracker.forget(&info_hash);
        assert!(matches!(tracker.untold(&info_hash), Untold::Ended));
    }

    #[tokio::test]
    async fn an_answer_waits_for_a_new_peer() {
        let place = tempfile::tempdir().unwrap();
        let (peers, tracker) = lonely(place.path()).await;
        let info_hash = InfoHash::from_bytes([0xfe; 20]);
        assert!(
            announce(&tracker, info_hash).await.contains("5:peers0:"),
            "an unknown download is answered at once"
        );
        let old = "192.0.2.1:6881".parse().unwrap();
        peers.add(old, PeerOrigin::Config);
        assert_eq!(tracker.begin(info_hash, 1), [old]);
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
