//! Connections that came in and have no slot yet: so few of one network that silence does not close the door to others.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::swarm::networks::{host_of, network_of};

use super::topic::Kind;

/// Of one kind: each may stay some seconds.
const VISITORS: usize = 64;
/// Strangers of one network.
const PER_NETWORK: usize = 4;
/// Of one machine on the LAN, or one that is named: many agents may run on it.
const PER_HOST: usize = 32;

/// Those who are here, by kind and owner.
type Present = HashMap<(Kind, IpAddr), usize>;

#[derive(Default)]
pub struct Visitors(Mutex<Present>);

/// The place of one visitor, until this is dropped.
pub struct Visit {
    visitors: Arc<Visitors>,
    owner: (Kind, IpAddr),
}

impl Visitors {
    /// A place for one more, if there is one for its kind and its network.
    pub fn take(self: &Arc<Self>, kind: Kind, address: IpAddr) -> Option<Visit> {
        let (owner, limit) = match kind {
            Kind::Stranger | Kind::Seedbox => (network_of(address), PER_NETWORK),
            Kind::Named | Kind::Lan => (host_of(address), PER_HOST),
        };
        let owner = (kind, owner);
        let mut present = self.lock();
        let all: usize = present
            .iter()
            .filter(|((other, _), _)| *other == kind)
            .map(|(_, count)| count)
            .sum();
        let its = present.get(&owner).copied().unwrap_or(0);
        if all >= VISITORS || its >= limit {
            return None;
        }
        present.insert(owner, its + 1);
        let visitors = self.clone();
        Some(Visit { visitors, owner })
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        let mut present = self.visitors.lock();
        if let Some(count) = present.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                present.remove(&self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_network_does_not_close_the_door() {
        let visitors = Arc::new(Visitors::default());
        let take = |kind, address: [u8; 4]| visitors.take(kind, address.into());
        let mut silent: Vec<Visit> = (0..64)
            .filter_map(|last| take(Kind::Stranger, [192, 0, 2, last]))
            .collect();
        assert_eq!(silent.len(), PER_NETWORK);
        let others = (0..100).filter_map(|third| take(Kind::Stranger, [198, 51, third, 1]));
        silent.extend(others);
        assert_eq!(silent.len(), VISITORS);
        let near = take(Kind::Lan, [10, 0, 0, 1]);
        assert!(near.is_some() && take(Kind::Named, [203, 0, 113, 1]).is_some());
        silent.clear();
        drop(near);
        assert!(visitors.lock().is_empty());
    }
}
