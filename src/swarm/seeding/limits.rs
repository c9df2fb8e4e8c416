//! Places for connections: how many there may be in all, and from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

/// Upload connections in all: each costs a task and about 10 kB.
const MAX_CONNECTIONS: usize = 1024;
/// Per address. A client opens one connection per torrent and Nix asks for up to 25 NARs at once, so this is far
/// above what an honest neighbour needs, and leaves room for seven others.
const MAX_PER_ADDRESS: usize = 128;

/// Hands out connection places; a place is given back when its guard is dropped.
#[derive(Clone, Default)]
pub struct Places {
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

pub struct Place {
    places: Places,
    address: IpAddr,
}

impl Places {
    pub fn take(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let mut taken = self.lock();
        if taken.values().sum::<usize>() >= MAX_CONNECTIONS {
            return None;
        }
        let here = taken.entry(address).or_default();
        if *here >= MAX_PER_ADDRESS {
            return None;
        }
        *here += 1;
        Some(Place {
            places: self.clone(),
            address,
        })
    }

    pub fn count(&self) -> usize {
        self.lock().values().sum()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        if let Some(here) = taken.get_mut(&self.address) {
            *here -= 1;
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let places = Places::default();
        let address = |i: usize| IpAddr::from([10, 0, (i / 256) as u8, (i % 256) as u8]);
        let mut held: Vec<Place> = (0..MAX_PER_ADDRESS)
            .map(|_| places.take(address(0)).unwrap())
            .collect();
        assert!(places.take(address(0)).is_none());
        held.extend((MAX_PER_ADDRESS..MAX_CONNECTIONS).map(|i| places.take(address(i)).unwrap()));
        assert!(places.take(address(5000)).is_none());
        held.clear();
        assert_eq!(places.count(), 0);
        assert!(places.take(address(0)).is_some());
    }
}
