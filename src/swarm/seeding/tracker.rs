//! The seeder's own HTTP tracker, on the one public port: whoever downloads something from here may ask who else does.
//!
//! Only for what this machine offers, and only for those whom it serves. Its answers name this seeder itself, the peers
//! that announced themselves here, at the address they came from, and the downloaders that said where they are reached.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::torrent::InfoHash;

use super::crowds::Crowds;
use super::offer_book::OfferBook;
use crate::swarm::networks::is_private;
use crate::swarm::protocol::announce::{self, Announce};
use crate::swarm::share::SharePolicy;

/// Crowds form fast, and an announce is cheap.
const INTERVAL: Duration = Duration::from_secs(60);
/// Two missed announces and some delay.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(150);
/// Who announced, for all payloads together: 40 bytes each.
const MAX_ANNOUNCED: usize = 20_000;
/// Of one machine for one payload, with different ports: several clients behind one NAT.
const MAX_PER_MACHINE: usize = 8;
/// And for all payloads: more than it downloads at a time.
const MAX_OF_MACHINE: usize = 256;
/// The usual number of peers in an answer.
const MAX_ANSWERED: usize = 50;
/// One small question and one small answer.
const CONVERSATION: Duration = Duration::from_secs(10);
/// The largest request head; hyper's lower bound.
const MAX_HEAD: usize = 8 * 1024;

pub struct Tracker {
    book: Arc<OfferBook>,
    crowds: Arc<Crowds>,
    policy: Arc<SharePolicy>,
    announced: Mutex<Announced>,
}

#[derive(Default)]
struct Announced {
    peers: HashMap<InfoHash, HashMap<SocketAddr, Noted>>,
    /// How many are noted of each machine, and in all.
    of_machine: HashMap<IpAddr, usize>,
    count: usize,
    swept: Option<Instant>,
}

struct Noted {
    machine: IpAddr,
    at: Instant,
}

impl Tracker {
    pub fn new(book: Arc<OfferBook>, crowds: Arc<Crowds>, policy: Arc<SharePolicy>) -> Self {
        Self {
            book,
            crowds,
            policy,
            announced: Mutex::default(),
        }
    }

    /// Answers one request; whatever goes wrong is the other side's problem.
    pub async fn serve(&self, stream: TcpStream, from: SocketAddr) {
        let address = from.ip().to_canonical();
        // Peers come in where the tracker is asked.
        let here = stream.local_addr().ok();
        let here = here.map(|here| SocketAddr::new(here.ip().to_canonical(), here.port()));
        let service = service_fn(|request| async move { self.respond(request, address, here) });
        let connection = hyper::server::conn::http1::Builder::new()
            .keep_alive(false)
            .max_buf_size(MAX_HEAD)
            .serve_connection(TokioIo::new(stream), service);
        if let Ok(Err(error)) = timeout(CONVERSATION, connection).await {
            tracing::debug!(%from, %error, "an announce broke off");
        }
    }

    fn respond(
        &self,
        request: Request<Incoming>,
        from: IpAddr,
        here: Option<SocketAddr>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        let uri = request.uri();
        let asked = request.method() == Method::GET && uri.path() == "/announce";
        let announce = uri.query().filter(|_| asked).and_then(Announce::parse);
        // A tracker's refusals are answers too (BEP 3).
        let body = match announce {
            None => announce::failure("not an announce"),
            Some(announce) if self.book.find(&announce.info_hash).is_none() => {
                announce::failure("not offered here")
            }
            Some(announce) => {
                let near = self.policy.is_confined(from);
                // Whoever came through a forwarded port does not reach the address behind it.
                let here = here.filter(|here| near || !is_private(here.ip()));
                let others = self.exchange(announce, from, near, Instant::now());
                let peers: Vec<SocketAddr> = here.into_iter().chain(others).collect();
                announce::answer(INTERVAL.as_secs(), &peers)
            }
        };
        Ok(Response::new(Full::new(Bytes::from(body))))
    }

    /// Notes who asks, and names the others: those that are `near` to those that are.
    fn exchange(
        &self,
        announce: Announce,
        from: IpAddr,
        near: bool,
        now: Instant,
    ) -> Vec<SocketAddr> {
        let own = announce
            .port
            .filter(|port| *port != 0)
            .map(|port| SocketAddr::new(from, port));
        let mut announced = self.lock();
        announced.sweep(now);
        if let Some(own) = own {
            match announce.stopped {
                true => announced.remove(&announce.info_hash, own),
                false => {
                    let machine = self.policy.machine_of(from);
                    announced.insert(announce.info_hash, own, Noted { machine, at: now });
                }
            }
        }
        let mut others: HashSet<SocketAddr> = self
            .crowds
            .addresses(&announce.info_hash)
            .into_iter()
            .collect();
        if let Some(peers) = announced.peers.get(&announce.info_hash) {
            others.extend(peers.keys());
        }
        if let Some(own) = own {
            others.remove(&own);
        }
        others
            .into_iter()
            .filter(|other| near || !self.policy.is_confined(other.ip()))
            .take(MAX_ANSWERED)
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Announced> {
        self.announced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl Announced {
    fn insert(&mut self, info_hash: InfoHash, peer: SocketAddr, noted: Noted) {
        let peers = self.peers.entry(info_hash).or_default();
        let of_machine = self.of_machine.get(&noted.machine);
        let same = |other: &&Noted| other.machine == noted.machine;
        let fits = self.count < MAX_ANNOUNCED
            && of_machine.is_none_or(|count| *count < MAX_OF_MACHINE)
            && peers.values().filter(same).count() < MAX_PER_MACHINE;
        if let Some(known) = peers.get_mut(&peer) {
            known.at = noted.at;
        } else if fits {
            *self.of_machine.entry(noted.machine).or_default() += 1;
            self.count += 1;
            peers.insert(peer, noted);
        }
        if peers.is_empty() {
            self.peers.remove(&info_hash);
        }
    }

    fn remove(&mut self, info_hash: &InfoHash, peer: SocketAddr) {
        let Some(peers) = self.peers.get_mut(info_hash) else {
            return;
        };
        if let Some(gone) = peers.remove(&peer) {
            self.count -= 1;
            if let Some(of_machine) = self.of_machine.get_mut(&gone.machine) {
                *of_machine -= 1;
            }
        }
        if peers.is_empty() {
            self.peers.remove(info_hash);
        }
    }

    /// Forgets who did not come back: at most once a minute, over all of them.
    fn sweep(&mut self, now: Instant) {
        if self
            .swept
            .is_some_and(|swept| now.duration_since(swept) < INTERVAL)
        {
            return;
        }
        self.swept = Some(now);
        self.peers.retain(|_, peers| {
            peers.retain(|_, noted| now.duration_since(noted.at) < FORGOTTEN_AFTER);
            !peers.is_empty()
        });
        self.of_machine.clear();
        for noted in self.peers.values().flat_map(HashMap::values) {
            *self.of_machine.entry(noted.machine).or_default() += 1;
        }
        self.count = self.of_machine.values().sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announced_peers_are_bounded_and_forgotten() {
        let mut announced = Announced::default();
        let hash = |i: usize| InfoHash::from_bytes([(i % 200) as u8; 20]);
        let peer = |i: usize| SocketAddr::from(([10, 0, (i / 250) as u8, (i % 250) as u8], 6881));
        let start = Instant::now();
        let insert = |announced: &mut Announced, i: usize, peer: SocketAddr| {
            let machine = peer.ip();
            announced.insert(hash(i), peer, Noted { machine, at: start });
        };
        for i in 0..MAX_ANNOUNCED + 500 {
            insert(&mut announced, i, peer(i));
        }
        assert_eq!(announced.count, MAX_ANNOUNCED);
        let mut few = Announced::default();
        for port in 1..100 {
            insert(&mut few, 0, SocketAddr::from(([10, 9, 9, 9], port)));
        }
        assert_eq!(few.count, MAX_PER_MACHINE);
        for i in 1..200 {
            (1..=8).for_each(|port| insert(&mut few, i, ([10, 9, 9, 9], port).into()));
        }
        assert_eq!(few.count, MAX_OF_MACHINE);
        few.remove(&hash(0), ([10, 9, 9, 9], 1).into());
        insert(&mut few, 0, ([10, 9, 9, 9], 9).into());
        insert(&mut few, 199, ([10, 9, 9, 8], 1).into());
        assert_eq!(few.count, MAX_OF_MACHINE + 1);
        announced.remove(&hash(0), peer(0));
        assert_eq!(announced.count, MAX_ANNOUNCED - 1);
        announced.sweep(start + FORGOTTEN_AFTER / 2);
        assert_eq!(announced.count, MAX_ANNOUNCED - 1);
        announced.sweep(start + FORGOTTEN_AFTER * 2);
        assert_eq!((announced.count, announced.peers.len()), (0, 0));
    }
}
