//! The peers that this machine knows of, and what was seen of them.

use std::cmp::{Ordering, Reverse};
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio::sync::watch;

use crate::swarm::networks::network_of;

/// How many addresses are kept: far more than a download can use, and a bound on what a hostile tracker can fill.
pub const MAX_PEERS: usize = 2000;
/// How many peers one download is given.
const MAX_CANDIDATES: usize = 80;
/// Addresses of one network that come from strangers: whoever has a network does not have the book.
const MAX_PER_NETWORK: usize = 64;
/// Those of one network that a download is given before those of others.
const CANDIDATES_PER_NETWORK: usize = 8;
/// Addresses that multicast tells of; anybody on the LAN can invent some.
const MAX_LAN: usize = 500;
/// Those of one machine, on which many agents may run; all machines of a LAN share a /64.
const MAX_PER_HOST: usize = 32;
/// A peer that could not be reached is asked last for this long.
const UNREACHED: Duration = Duration::from_secs(60);
/// A peer that broke its word, or the protocol, is not asked at all for this long.
pub const BANNED: Duration = Duration::from_secs(600);

/// Where an address came from; configured ones are never forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerOrigin {
    /// Another peer told of it: not asked for anything before a topic connection reached it.
    Exchange,
    Dht,
    Tracker,
    Manifest,
    /// Found by multicast, within the LAN.
    Lan,
    Config,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    origin: PeerOrigin,
    /// Whether a manifest names it, whoever else does.
    listed: bool,
    failed: Option<Instant>,
    reached: bool,
    /// Whether it ever was.
    met: bool,
    banned: Option<Instant>,
}

impl Known {
    /// Whether nobody was ever there, and nothing but some stranger's word speaks for it.
    fn is_hopeless(&self) -> bool {
        self.failed.is_some() && !self.met && !self.is_named()
    }

    fn is_named(&self) -> bool {
        matches!(self.origin, PeerOrigin::Manifest | PeerOrigin::Config)
    }

    fn is_banned(&self) -> bool {
        self.banned.is_some_and(|at| at.elapsed() < BANNED)
    }
}

/// All known peers; cheap to read, and `changes` wakes whoever waits for a new one.
pub struct PeerBook {
    known: Mutex<HashMap<SocketAddr, Known>>,
    version: watch::Sender<u64>,
}

impl Default for PeerBook {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            version: watch::Sender::new(0),
        }
    }
}

impl PeerBook {
    pub fn add(&self, address: SocketAddr, origin: PeerOrigin) {
        if address.port() == 0 || address.ip().is_unspecified() || address.ip().is_multicast() {
            return;
        }
        {
            let mut known = self.lock();
            if let Some(seen) = known.get_mut(&address) {
                seen.origin = seen.origin.max(origin);
                return;
            }
            if !find_place(&mut known, address.ip(), origin)
                || (known.len() >= MAX_PEERS && !make_room(&mut known, origin))
            {
                return;
            }
            known.insert(
                address,
                Known {
                    origin,
                    listed: false,
                    failed: None,
                    reached: false,
                    met: false,
                    banned: None,
                },
            );
        }
        self.version.send_modify(|v| *v += 1);
    }

    /// The configured peers are these from now on.
    pub fn configure(&self, addresses: &[SocketAddr]) {
        self.lock().retain(|address, known| {
            let dropped = known.origin == PeerOrigin::Config && !addresses.contains(address);
            if dropped {
                known.origin = PeerOrigin::Manifest;
            }
            !dropped || known.listed
        });
        for address in addresses {
            self.add(*address, PeerOrigin::Config);
        }
    }

    /// Manifests name these from now on. Whom they name no longer is one of many that peers tell of.
    pub fn name(&self, addresses: &[SocketAddr]) {
        let named: HashSet<&SocketAddr> = addresses.iter().collect();
        for (address, known) in self.lock().iter_mut() {
            if known.origin == PeerOrigin::Manifest && !named.contains(address) {
                known.origin = PeerOrigin::Exchange;
            }
        }
        for address in addresses {
            self.add(*address, PeerOrigin::Manifest);
        }
        for (address, known) in self.lock().iter_mut() {
            known.listed = named.contains(address);
        }
    }

    /// Notes whether a connection to this peer came about.
    pub fn saw(&self, address: SocketAddr, reached: bool) {
        if let Some(known) = self.lock().get_mut(&address) {
            known.reached = reached;
            known.met |= reached;
            known.failed = (!reached).then(Instant::now);
        }
    }

    /// Somebody listens there, and has not shown more. Of what only other peers tell that says nothing: any port does.
    pub fn answered(&self, address: SocketAddr) {
        if let Some(known) = self.lock().get_mut(&address)
            && known.origin > PeerOrigin::Exchange
        {
            known.reached = true;
            known.met = true;
            known.failed = None;
        }
    }

    /// Leaves a peer alone for a while; where it came from does not matter.
    pub fn ban(&self, address: SocketAddr) {
        if let Some(known) = self.lock().get_mut(&address) {
            known.banned = Some(Instant::now());
        }
    }

    pub fn is_banned(&self, address: SocketAddr) -> bool {
        let known = self.lock();
        known.get(&address).is_some_and(Known::is_banned)
    }

    /// Whether the configuration or a verified manifest names this address.
    pub fn is_named(&self, address: &SocketAddr) -> bool {
        self.lock().get(address).is_some_and(Known::is_named)
    }

    /// Whether they name this machine, at whatever port.
    pub fn is_named_host(&self, address: IpAddr) -> bool {
        let known = self.lock();
        let mut named = known.iter().filter(|(_, known)| known.is_named());
        named.any(|(named, _)| named.ip() == address)
    }

    pub fn forget(&self, address: &SocketAddr) {
        self.lock().remove(address);
    }

    /// Addresses that may be tried.
    pub fn dialable(&self) -> Vec<SocketAddr> {
        let known = self.lock();
        let good = known.iter().filter(|(_, known)| !known.is_banned());
        good.map(|(address, _)| *address).collect()
    }

    /// Addresses that answered.
    pub fn reached(&self) -> Vec<SocketAddr> {
        let known = self.lock();
        let good = known.iter().filter(|(_, k)| k.reached && !k.is_banned());
        good.map(|(address, _)| *address).collect()
    }

    /// Those of whom most is to be expected first.
    pub fn rank(&self, addresses: &mut [SocketAddr]) {
        // Not everybody begins with the same.
        addresses.shuffle(&mut rand::rng());
        let known = self.lock();
        addresses.sort_by_key(|address| match known.get(address) {
            Some(known) if known.reached => 0,
            Some(known) if known.failed.is_some_and(|at| at.elapsed() < UNREACHED) => 2,
            _ => 1,
        });
    }

    /// The best peers first: configured before found, answering before silent, and among equals anybody, a few of each
    /// network.
    pub fn candidates(&self) -> Vec<SocketAddr> {
        let mut all: Vec<(bool, PeerOrigin, SocketAddr)> = self
            .lock()
            .iter()
            .filter(|(_, known)| !known.is_banned())
            .filter(|(_, known)| known.origin > PeerOrigin::Exchange || known.reached)
            .map(|(address, known)| {
                (
                    known.failed.is_none_or(|at| at.elapsed() > UNREACHED),
                    known.origin,
                    *address,
                )
            })
            .collect();
        all.shuffle(&mut rand::rng());
        all.sort_by_key(|(answers, origin, _)| Reverse((*answers, *origin)));
        let mut networks: HashMap<IpAddr, usize> = HashMap::new();
        let (few, more): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, address)| {
            let count = networks.entry(network_of(address.ip())).or_default();
            *count += 1;
            *count <= CANDIDATES_PER_NETWORK
        });
        few.into_iter()
            .chain(more)
            .take(MAX_CANDIDATES)
            .map(|(_, _, address)| address)
            .collect()
    }

    pub fn len(&self) -> usize {
        self.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn reachable(&self) -> usize {
        self.lock().values().filter(|known| known.reached).count()
    }

    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SocketAddr, Known>> {
        self.known.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Whether one more address of this origin is kept, whatever else there is.
fn find_place(known: &mut HashMap<SocketAddr, Known>, address: IpAddr, origin: PeerOrigin) -> bool {
    match origin {
        PeerOrigin::Manifest | PeerOrigin::Config => true,
        PeerOrigin::Lan => {
            let host = address.to_canonical();
            fits(known, MAX_PER_HOST, |other, known| {
                known.origin == origin && other.to_canonical() == host
            }) && fits(known, MAX_LAN, |_, known| known.origin == origin)
        }
        PeerOrigin::Exchange | PeerOrigin::Dht | PeerOrigin::Tracker => {
            let network = network_of(address);
            fits(known, MAX_PER_NETWORK, |other, known| {
                known.origin <= PeerOrigin::Tracker && network_of(other) == network
            })
        }
    }
}

/// Whether one more fits among those that count, if need be in the place of one where nobody ever was.
fn fits(
    known: &mut HashMap<SocketAddr, Known>,
    limit: usize,
    counts: impl Fn(IpAddr, &Known) -> bool,
) -> bool {
    let counted = known
        .iter()
        .filter(|(other, known)| counts(other.ip(), known));
    if counted.clone().count() < limit {
        return true;
    }
    let mut hopeless = counted.filter(|(_, known)| known.is_hopeless());
    let gone = hopeless.next().map(|(address, _)| *address);
    gone.is_some_and(|gone| known.remove(&gone).is_some())
}

/// Drops one address of an origin that says less than `origin`: one that nobody has reached, or of which only other
/// peers tell. For one that is named any that is not will do; of the same origin, one where nobody ever was.
fn make_room(known: &mut HashMap<SocketAddr, Known>, origin: PeerOrigin) -> bool {
    let named = matches!(origin, PeerOrigin::Manifest | PeerOrigin::Config);
    let worst = known
        .iter()
        .filter(|(_, known)| match known.origin.cmp(&origin) {
            Ordering::Less if known.is_named() => false,
            Ordering::Less => named || !known.reached || known.origin == PeerOrigin::Exchange,
            Ordering::Equal => known.is_hopeless(),
            Ordering::Greater => false,
        })
        .min_by_key(|(_, known)| (known.origin, known.reached))
        .map(|(address, _)| *address);
    worst.is_some_and(|worst| known.remove(&worst).is_some())
}

#[cfg(test)]
mod tests;
