//! One topic: the channel's layers, what this machine has of them, and its bounded number of neighbours.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use rand::seq::IndexedRandom;
use tokio::sync::watch;

use crate::catalog::Release;
use crate::swarm::networks::network_of;
use crate::torrent::InfoHash;

use super::layers::{Layers, RowName};
use super::message::LayerId;
use super::neighbour::Neighbour;
use super::row_set::RowSet;

/// One part in so many of the slots is kept for seedboxes that a manifest or the configuration names, and one for
/// neighbours on the LAN: they come in even when all slots are taken. Another stays with those that only say themselves
/// that they are seedboxes, once they have a slot.
const RESERVE: usize = 4;
/// Strangers from one network (a /24, a /48) get one part of the slots in so many.
const PER_NETWORK: usize = 4;
/// One that has hardly any neighbours is let in in the place of another, this often: nobody is left alone by a full
/// swarm, and nobody pushes out our neighbours quickly.
const MERCY_INTERVAL: Duration = Duration::from_secs(5);
/// So few neighbours are hardly any.
const LONELY: u64 = 2;

/// What this machine has of a topic's layers; a layer of which it has nothing is there too.
#[derive(Default)]
pub struct Holdings {
    pub haves: HashMap<LayerId, Arc<RowSet>>,
    pub getting: Vec<RowName>,
}

/// Why a neighbour is worth a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// An address that the configuration or a verified manifest names.
    Named,
    Lan,
    /// It says that it is a seedbox, and it was we who dialled it.
    Seedbox,
    Stranger,
}

impl Kind {
    /// Whether slots are kept free for it. Anybody can call itself a seedbox: that alone opens no door.
    fn has_reserve(self) -> bool {
        matches!(self, Self::Named | Self::Lan)
    }
}

pub struct Topic {
    pub hash: InfoHash,
    releases: RwLock<Arc<Vec<Release>>>,
    layers: watch::Sender<Arc<Layers>>,
    holdings: watch::Sender<Arc<Holdings>>,
    slots: Mutex<Slots>,
}

#[derive(Default)]
struct Slots {
    taken: Vec<(Kind, Arc<Neighbour>)>,
    mercy: Option<Instant>,
}

impl Topic {
    pub fn new(hash: InfoHash) -> Self {
        Self {
            hash,
            releases: RwLock::default(),
            layers: watch::Sender::new(Arc::default()),
            holdings: watch::Sender::new(Arc::default()),
            slots: Mutex::default(),
        }
    }

    pub fn set_releases(&self, releases: Vec<Release>) {
        let layers = Arc::new(Layers::of(&releases));
        *self
            .releases
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Arc::new(releases);
        self.layers.send_if_modified(|known| {
            let changed = known.ids() != layers.ids();
            *known = layers.clone();
            changed
        });
    }

    pub fn releases(&self) -> Arc<Vec<Release>> {
        self.releases
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn layers(&self) -> Arc<Layers> {
        self.layers.borrow().clone()
    }

    pub fn watch_layers(&self) -> watch::Receiver<Arc<Layers>> {
        self.layers.subscribe()
    }

    pub fn set_holdings(&self, holdings: Holdings) {
        self.holdings.send_if_modified(|known| {
            let changed = known.haves != holdings.haves || known.getting != holdings.getting;
            *known = Arc::new(holdings);
            changed
        });
    }

    pub fn watch_holdings(&self) -> watch::Receiver<Arc<Holdings>> {
        self.holdings.subscribe()
    }

    pub fn neighbours(&self) -> Vec<Arc<Neighbour>> {
        let slots = self.slots();
        slots.taken.iter().map(|(_, n)| n.clone()).collect()
    }

    pub fn count(&self) -> usize {
        self.slots().taken.len()
    }

    /// Whether one of this kind would get a slot that nobody else has.
    pub fn has_room(&self, kind: Kind, limit: usize) -> bool {
        let slots = self.slots();
        slots.taken.len() < limit || (kind.has_reserve() && slots.of(kind) < limit / RESERVE)
    }

    /// Gives the new neighbour a slot, in the place of another if need be; false if there is none for it.
    pub fn admit(&self, new: &Arc<Neighbour>, kind: Kind, limit: usize) -> bool {
        let mut slots = self.slots();
        let same = slots.taken.iter().find(|(_, known)| known.is_same(new));
        if let Some((_, known)) = same {
            // Both dialled each other: the one that the smaller id dialled stays, and both sides see the same.
            let keeps_new = (new.dialled != known.dialled) && new.outranks(known);
            if !keeps_new {
                return false;
            }
            known.stop.cancel();
            let id = known.id;
            slots.taken.retain(|(_, known)| known.id != id);
        }
        if slots.taken.len() >= limit {
            let reserved = kind.has_reserve() && slots.of(kind) < limit / RESERVE;
            if !reserved {
                return false;
            }
            let Some(victim) = slots.victim(limit, |_| true) else {
                return false;
            };
            slots.evict(victim);
        }
        slots.taken.push((kind, new.clone()));
        true
    }

    /// A full topic makes room for one that has hardly anybody else, now and then.
    pub fn admit_lonely(&self, new: &Arc<Neighbour>, kind: Kind, limit: usize) -> bool {
        let mut slots = self.slots();
        let lately = slots
            .mercy
            .is_some_and(|last| last.elapsed() < MERCY_INTERVAL);
        let lonely = new.hello().is_some_and(|hello| hello.neighbours <= LONELY);
        let twice = slots.taken.iter().any(|(_, n)| n.is_same(new));
        if lately || !lonely || twice {
            return false;
        }
        // Whom we dialled we chose ourselves.
        let Some(victim) = slots.victim(limit, |n| !n.dialled) else {
            return false;
        };
        slots.mercy = Some(Instant::now());
        slots.evict(victim);
        slots.taken.push((kind, new.clone()));
        true
    }

    /// Only its hello tells what it says that it is, and where one that came in serves, which may be a named address.
    pub fn set_kind(&self, neighbour: &Neighbour, kind: Kind) {
        let mut slots = self.slots();
        let slot = slots.taken.iter_mut().find(|(_, n)| n.id == neighbour.id);
        if let Some(slot) = slot {
            slot.0 = kind;
        }
    }

    pub fn leave(&self, neighbour: &Neighbour) {
        self.slots()
            .taken
            .retain(|(_, known)| known.id != neighbour.id);
    }

    /// Ends one connection that has no claim on its slot, so that another machine can be met.
    pub fn rotate(&self, limit: usize) {
        let mut slots = self.slots();
        if slots.taken.len() >= limit
            && let Some(victim) = slots.victim(limit, |_| true)
        {
            slots.evict(victim);
        }
    }

    /// Whether strangers of this address's network have all the slots that one network gets.
    pub fn is_crowded(&self, address: IpAddr, limit: usize) -> bool {
        let network = network_of(address);
        let near = |(kind, n): &&(Kind, Arc<Neighbour>)| {
            matches!(kind, Kind::Stranger | Kind::Seedbox) && network_of(n.address.ip()) == network
        };
        let slots = self.slots();
        slots.taken.iter().filter(near).count() >= limit.div_ceil(PER_NETWORK)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Slots {
    fn of(&self, kind: Kind) -> usize {
        self.taken.iter().filter(|(k, _)| *k == kind).count()
    }

    /// Someone of no kind with a claim, picked at random: who comes cannot choose whom it pushes out.
    fn victim(&self, limit: usize, may_go: impl Fn(&Neighbour) -> bool) -> Option<u64> {
        let claims = |kind: Kind| kind != Kind::Stranger && self.of(kind) <= limit / RESERVE;
        let free: Vec<u64> = self
            .taken
            .iter()
            .filter(|(kind, n)| !claims(*kind) && may_go(n))
            .map(|(_, n)| n.id)
            .collect();
        free.choose(&mut rand::rng()).copied()
    }

    fn evict(&mut self, id: u64) {
        self.taken.retain(|(_, neighbour)| {
            if neighbour.id == id {
                neighbour.stop.cancel();
            }
            neighbour.id != id
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::sync::mpsc;
    use tokio_util::sync::CancellationToken;

    use super::super::message::Hello;
    use super::super::neighbour::Introduction;
    use super::*;

    const LIMIT: usize = 8;

    fn neighbour(id: u64, dialled: bool) -> Arc<Neighbour> {
        neighbour_at([192, 0, 2, id as u8], id, dialled)
    }

    fn neighbour_at(ip: [u8; 4], id: u64, dialled: bool) -> Arc<Neighbour> {
        let mut peer_id = [0; 20];
        peer_id[..8].copy_from_slice(&id.to_be_bytes());
        Arc::new(Neighbour::new(Introduction {
            id,
            address: SocketAddr::from((ip, 6881)),
            dialled,
            peer_id,
            our_id: [9; 20],
            mute: false,
            is_near: false,
            budget: Arc::default(),
            stop: CancellationToken::new(),
            outbox: mpsc::channel(1).0,
        }))
    }

    fn hello(neighbours: u64) -> Hello {
        Hello {
            layers: vec![],
            neighbours,
            port: 1,
            public: true,
            seedbox: false,
        }
    }

    fn topic() -> Topic {
        Topic::new(InfoHash::from_bytes([1; 20]))
    }

    #[test]
    fn slots_are_bounded_and_some_are_kept() {
        let topic = topic();
        let all: Vec<_> = (0..30).map(|id| neighbour(id, false)).collect();
        let admitted = |ids: std::ops::Range<usize>, kind| {
            let new = all[ids].iter();
            new.filter(|n| topic.admit(n, kind, LIMIT)).count()
        };
        assert_eq!(admitted(0..10, Kind::Stranger), LIMIT);
        assert_eq!(admitted(10..14, Kind::Named), LIMIT / RESERVE);
        assert_eq!(admitted(14..20, Kind::Lan), LIMIT / RESERVE);
        assert_eq!(topic.count(), LIMIT);
        let evicted = all.iter().filter(|n| n.stop.is_cancelled()).count();
        assert_eq!(evicted, 2 * (LIMIT / RESERVE));
        topic.rotate(LIMIT);
        assert_eq!(topic.count(), LIMIT - 1);
        assert!(topic.has_room(Kind::Stranger, LIMIT));
    }

    #[test]
    fn who_says_that_it_is_a_seedbox_stays_and_pushes_nobody_out() {
        let topic = topic();
        let all: Vec<_> = (0..12).map(|id| neighbour(id, true)).collect();
        let (first, late) = all.split_at(LIMIT);
        first
            .iter()
            .for_each(|n| assert!(topic.admit(n, Kind::Stranger, LIMIT)));
        let boxes = &first[..LIMIT / RESERVE];
        boxes.iter().for_each(|n| topic.set_kind(n, Kind::Seedbox));
        assert!(!topic.admit(&late[0], Kind::Seedbox, LIMIT));
        for new in late {
            topic.rotate(LIMIT);
            assert!(topic.admit(new, Kind::Stranger, LIMIT));
        }
        assert!(boxes.iter().all(|n| !n.stop.is_cancelled()));
    }

    #[test]
    fn the_lonely_are_let_in_now_and_then() {
        let topic = topic();
        (0..8).for_each(|id| assert!(topic.admit(&neighbour(id, false), Kind::Stranger, LIMIT)));
        let busy = neighbour(20, false);
        busy.set_hello(hello(7));
        assert!(!topic.admit_lonely(&busy, Kind::Stranger, LIMIT));
        let [first, second] = [21, 22].map(|id| neighbour(id, false));
        [&first, &second].iter().for_each(|n| n.set_hello(hello(0)));
        assert!(topic.admit_lonely(&first, Kind::Stranger, LIMIT));
        assert!(!topic.admit_lonely(&second, Kind::Stranger, LIMIT));
        assert_eq!(topic.count(), LIMIT);
    }

    #[test]
    fn of_two_connections_to_one_neighbour_the_same_stays_on_both_sides() {
        let topic = topic();
        assert!(topic.admit(&neighbour(1, false), Kind::Lan, LIMIT));
        // Peer 1 has the smaller id: the connection that it dialled stays.
        assert!(!topic.admit(&neighbour(1, true), Kind::Lan, LIMIT));
        assert!(!topic.admit(&neighbour(1, false), Kind::Lan, LIMIT));
        let other = Topic::new(InfoHash::from_bytes([2; 20]));
        assert!(other.admit(&neighbour(1, true), Kind::Lan, LIMIT));
        assert!(other.admit(&neighbour(1, false), Kind::Lan, LIMIT));
        assert_eq!(other.count(), 1);
    }

    #[test]
    fn a_copied_peer_id_pushes_nobody_out() {
        let topic = topic();
        let known = neighbour(1, false);
        let copy = neighbour_at([198, 51, 100, 1], 1, true);
        assert!(topic.admit(&known, Kind::Stranger, LIMIT));
        assert!(topic.admit(&copy, Kind::Stranger, LIMIT));
        assert!(!known.stop.is_cancelled());
        assert_eq!(topic.count(), 2);
    }

    #[test]
    fn one_network_does_not_fill_the_slots_and_mercy_spares_whom_we_dialled() {
        let topic = topic();
        for id in 0..LIMIT as u64 {
            let crowded = topic.is_crowded([192, 0, 2, 77].into(), LIMIT);
            assert_eq!(crowded, id >= (LIMIT / PER_NETWORK) as u64);
            topic.admit(&neighbour(id, true), Kind::Stranger, LIMIT);
        }
        assert!(!topic.is_crowded([192, 0, 3, 77].into(), LIMIT));
        let lonely = neighbour(20, false);
        lonely.set_hello(hello(0));
        assert!(!topic.admit_lonely(&lonely, Kind::Stranger, LIMIT));
    }
}
