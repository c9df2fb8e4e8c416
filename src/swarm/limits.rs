//! Bounds of the upload side: connections in all and per address, and the rate.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Upload connections in all: each costs a task and about 10 kB.
const MAX_CONNECTIONS: usize = 1024;
/// Per address. A client opens one connection per torrent and Nix asks for up to 25 NARs at once, so this is far
/// above what an honest neighbour needs, and leaves room for seven others.
const MAX_PER_ADDRESS: usize = 128;
/// The smallest rate that still lets one block through in one go.
const MIN_RATE: u32 = super::wire::MAX_REQUEST;

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

/// The upload rate of the whole machine; it may change at any time.
pub struct UploadLimit {
    limiter: RwLock<Option<Arc<DefaultDirectRateLimiter>>>,
}

impl UploadLimit {
    /// `None` is unlimited.
    pub fn new(bytes_per_second: Option<u64>) -> Self {
        Self {
            limiter: RwLock::new(limiter(bytes_per_second)),
        }
    }

    /// What already waits goes by the rate that was.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        let limiter = limiter(bytes_per_second);
        *self.limiter.write().unwrap_or_else(PoisonError::into_inner) = limiter;
    }

    /// Waits until `bytes` may leave. Callers ask for at most one block at a time.
    pub async fn wait(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).ok().and_then(NonZeroU32::new);
        let limiter = self
            .limiter
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let (Some(limiter), Some(bytes)) = (limiter, bytes) {
            // Only fails when more is asked than the bucket holds, which MIN_RATE excludes.
            let _ = limiter.until_n_ready(bytes).await;
        }
    }
}

fn limiter(bytes_per_second: Option<u64>) -> Option<Arc<DefaultDirectRateLimiter>> {
    let rate = u32::try_from(bytes_per_second?).unwrap_or(u32::MAX);
    let quota = Quota::per_second(NonZeroU32::new(rate.max(MIN_RATE)).unwrap_or(NonZeroU32::MAX));
    Some(Arc::new(RateLimiter::direct(quota)))
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
