//! Places for connections: how many there may be, in all and from one address, and who goes when none is left.
//!
//! A connection begins half-open, without a handshake; such places are few, and the oldest makes room for the newest: who
//! means it shakes hands at once. After its handshake a connection may stay silent as long as BEP 3 lets it, because a
//! silent peer costs 10 kB and no CPU; but once all places are taken, the one that has asked for nothing longest goes.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// Of all places, one address gets one part in so many. A client opens one connection per torrent and Nix asks for up to
/// 25 NARs at once: of 1024 places these are far more than an honest neighbour needs, and leave room for seven others.
const ADDRESS_SHARE: usize = 8;
/// Of these, one part in so many may be half-open. A crowd that comes all at once is served handshake by handshake; only
/// who keeps silent is still there when so many have come after it.
const HALF_OPEN_SHARE: usize = 2;
/// Who asked for something in this time is not idle: so long a crowd may keep it waiting for the next piece to ask for.
const SPARED: Duration = Duration::from_secs(5);

/// Hands out connection places; a place is given back when its guard is dropped.
#[derive(Clone)]
pub struct Places(Arc<Mutex<State>>);

struct State {
    limit: usize,
    next: u64,
    taken: HashMap<u64, Taken>,
}

struct Taken {
    address: IpAddr,
    greeted: bool,
    /// When it was last of use, and whether it is now.
    of_use: Instant,
    works: bool,
    displaced: CancellationToken,
}

pub struct Place {
    places: Places,
    id: u64,
    displaced: CancellationToken,
}

impl Places {
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            limit,
            next: 0,
            taken: HashMap::new(),
        })))
    }

    /// Those that are there stay; who comes finds so many places.
    pub fn set(&self, limit: usize) {
        self.lock().limit = limit;
    }

    /// A place for a connection that has not shaken hands yet.
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        self.take_at(address, Instant::now())
    }

    fn take_at(&self, address: IpAddr, now: Instant) -> Option<Place> {
        let address = address.to_canonical();
        let mut state = self.lock();
        if !state.make_room(address, now) {
            return None;
        }
        let id = state.next;
        state.next += 1;
        let displaced = CancellationToken::new();
        state.taken.insert(
            id,
            Taken {
                address,
                greeted: false,
                of_use: now,
                works: false,
                displaced: displaced.clone(),
            },
        );
        Some(Place {
            places: self.clone(),
            id,
            displaced,
        })
    }

    pub fn count(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether one more from `address` fits, if need be in the place of another one.
    fn make_room(&mut self, address: IpAddr, now: Instant) -> bool {
        let limit = self.limit;
        let own = move |taken: &Taken| taken.address == address;
        self.fits(limit.div_ceil(ADDRESS_SHARE), now, own) && self.fits(limit, now, |_| true)
    }

    /// The same for those that `counts` and their limit.
    fn fits(&mut self, limit: usize, now: Instant, counts: impl Fn(&Taken) -> bool) -> bool {
        let counted = self.taken.values().filter(|taken| counts(taken));
        let (mut all, mut half_open) = (0, 0);
        for taken in counted {
            all += 1;
            half_open += usize::from(!taken.greeted);
        }
        if half_open >= limit.div_ceil(HALF_OPEN_SHARE) {
            return self.displace(|taken| counts(taken) && !taken.greeted);
        }
        all < limit || self.displace(|taken| counts(taken) && taken.is_idle(now))
    }

    /// Lets go of the one that has been idle longest among those that `may` go.
    fn displace(&mut self, may: impl Fn(&Taken) -> bool) -> bool {
        let candidates = self.taken.iter().filter(|(_, taken)| may(taken));
        let longest = candidates.min_by_key(|(id, taken)| (taken.of_use, **id));
        let Some(id) = longest.map(|(id, _)| *id) else {
            return false;
        };
        if let Some(taken) = self.taken.remove(&id) {
            taken.displaced.cancel();
        }
        true
    }
}

impl Taken {
    fn is_idle(&self, now: Instant) -> bool {
        !self.works && now.saturating_duration_since(self.of_use) >= SPARED
    }
}

impl Place {
    /// Resolves when the place went to somebody else.
    pub async fn displaced(&self) {
        self.displaced.cancelled().await;
    }

    /// The handshake is done.
    pub fn greeted(&self) {
        self.with(|taken| taken.greeted = true);
    }

    /// The peer has asked for something and is being served, or waits for its turn to ask.
    pub fn works(&self) {
        self.with(|taken| taken.works = true);
    }

    /// It waits for nothing. Whoever got nothing, because it took back what it had asked for, was idle all the time.
    pub fn rests(&self, was_of_use: bool) {
        self.with(|taken| {
            taken.works = false;
            if was_of_use {
                taken.of_use = Instant::now();
            }
        });
    }

    fn with(&self, act: impl FnOnce(&mut Taken)) {
        if let Some(taken) = self.places.lock().taken.get_mut(&self.id) {
            act(taken);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.lock().taken.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 1024;
    const OWN: usize = LIMIT / ADDRESS_SHARE;

    struct Scene {
        places: Places,
        now: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                places: Places::new(LIMIT),
                now: Instant::now(),
            }
        }

        /// The `i`th connection, each later than the one before.
        fn come(&mut self, host: usize) -> Option<Place> {
            self.now += Duration::from_micros(1);
            let address = IpAddr::from([10, 0, (host / 256) as u8, (host % 256) as u8]);
            self.places.take_at(address, self.now)
        }

        fn greet(&mut self, host: usize) -> Option<Place> {
            self.come(host).inspect(Place::greeted)
        }
    }

    fn is_displaced(place: &Place) -> bool {
        place.displaced.is_cancelled()
    }

    #[test]
    fn places_are_bounded_and_given_back() {
        let mut scene = Scene::new();
        let mut held: Vec<Place> = (0..OWN).map(|_| scene.greet(0).unwrap()).collect();
        assert!(scene.greet(0).is_none());
        held.extend((OWN..LIMIT).map(|host| scene.greet(host).unwrap()));
        assert!(scene.greet(5000).is_none());
        assert!(!held.iter().any(is_displaced));
        scene.places.set(LIMIT + 1);
        held.push(scene.greet(5000).unwrap());
        held.clear();
        assert_eq!(scene.places.count(), 0);
        assert!(scene.greet(0).is_some());
    }

    #[test]
    fn the_oldest_without_a_handshake_makes_room() {
        let mut scene = Scene::new();
        let honest = scene.greet(0).unwrap();
        let own = OWN / HALF_OPEN_SHARE;
        let silent: Vec<Place> = (0..own + 3).map(|_| scene.come(0).unwrap()).collect();
        let gone = silent.iter().filter(|place| is_displaced(place)).count();
        assert_eq!(gone, 3);
        assert!(silent[..3].iter().all(is_displaced), "the oldest");
        let all = LIMIT / HALF_OPEN_SHARE;
        let others: Vec<Place> = (0..all).map(|i| scene.come(1 + i).unwrap()).collect();
        assert!(silent.iter().all(is_displaced));
        assert!(!others.iter().any(is_displaced) && !is_displaced(&honest));
        assert_eq!(scene.places.count(), all + 1);
    }

    #[test]
    fn the_longest_idle_makes_room_and_no_other() {
        let mut scene = Scene::new();
        let held: Vec<Place> = (0..LIMIT).map(|host| scene.greet(host).unwrap()).collect();
        held[0].works();
        held[1].works();
        held[1].rests(false);
        held[2].works();
        held[2].rests(true);
        assert!(scene.come(5000).is_none(), "all have only just come");
        scene.now += SPARED;
        let newcomer = scene.come(5000).unwrap();
        let gone: Vec<usize> = (0..LIMIT).filter(|i| is_displaced(&held[*i])).collect();
        assert_eq!(gone, [1], "the first that is not being served, nor was");
        drop(newcomer);
        assert_eq!(scene.places.count(), LIMIT - 1);
    }
}
