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
/// And so does one machine on the LAN, whatever number of agents it says that it is.
const PER_HOST: usize = 4;
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

    /// Whether those of this kind have all the slots that one owner of addresses gets: strangers of one network, or one
    /// address on the LAN, where all machines share a /64. Many agents may be behind the loopback address.
    pub fn is_crowded(&self, kind: Kind, address: IpAddr, limit: usize) -> bool {
        let owner = |address: IpAddr, kind: Kind| match kind {
            Kind::Named => None,
            Kind::Lan if address.to_canonical().is_loopback() => None,
            Kind::Lan => Some((address.to_canonical(), limit.div_ceil(PER_HOST))),
            Kind::Seedbox | Kind::Stranger => {
                Some((network_of(address), limit.div_ceil(PER_NETWORK)))
            }
        };
        let its = owner(address, kind);
        let Some((_, most)) = its else {
            return false;
        };
        let near = |(other, n): &&(Kind, Arc<Neighbour>)| owner(n.address.ip(), *other) == its;
        self.slots().taken.iter().filter(near).count() >= most
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
mod tests;
