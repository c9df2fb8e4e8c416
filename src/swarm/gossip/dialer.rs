//! Keeps the slots of each topic filled: dials known addresses, named ones first, and replaces neighbours over time.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::seq::SliceRandom;
use tokio::task::JoinSet;

use crate::swarm::discovery::MAX_PEERS;
use crate::torrent::InfoHash;

use super::Gossip;
use super::topic::{Kind, Topic};

/// Between two looks at the slots; also how soon a new address is dialled.
const TICK: Duration = Duration::from_millis(500);
/// Connections being opened at once, of all topics.
const MAX_DIALLING: usize = 8;
/// After a failure an address rests, each time twice as long. A machine that starts up is soon tried again.
const FIRST_REST: Duration = Duration::from_secs(2);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// Strangers are dialled up to this part of the slots: the rest is for those who come.
const DIALLED: (usize, usize) = (3, 4);
/// A full topic replaces one neighbour this often, to learn of others.
const ROTATION: Duration = Duration::from_secs(600);

/// Connections being opened.
type Dialling = HashMap<(InfoHash, SocketAddr), Kind>;

/// When an address may be dialled again.
#[derive(Default)]
struct Rests(HashMap<(InfoHash, SocketAddr), (Instant, u32)>);

impl Rests {
    fn rests(&self, topic: InfoHash, address: SocketAddr) -> bool {
        let rest = self.0.get(&(topic, address));
        rest.is_some_and(|(until, _)| *until > Instant::now())
    }

    fn failed(&mut self, topic: InfoHash, address: SocketAddr) {
        let (until, failures) = self
            .0
            .entry((topic, address))
            .or_insert((Instant::now(), 0));
        let rest = FIRST_REST.saturating_mul(2u32.saturating_pow(*failures));
        *failures += 1;
        *until = Instant::now() + rest.min(LONGEST_REST);
    }
}

impl Gossip {
    /// Dials until the program stops.
    pub(super) async fn keep_slots_filled(self: Arc<Self>) {
        let mut rests = Rests::default();
        let mut dialling = Dialling::new();
        let mut dials: JoinSet<(InfoHash, SocketAddr, bool)> = JoinSet::new();
        let mut changes = self.peers.changes();
        let mut rotated = Instant::now();
        loop {
            let topics = self.topics();
            for topic in &topics {
                let mut candidates = self.candidates(topic);
                candidates.retain(|(_, address)| {
                    !dialling.contains_key(&(topic.hash, *address))
                        && !rests.rests(topic.hash, *address)
                });
                while dials.len() < MAX_DIALLING
                    && let Some((kind, address)) = take_fairly(&mut candidates, &dialling)
                {
                    dialling.insert((topic.hash, address), kind);
                    let (gossip, topic) = (self.clone(), topic.clone());
                    let dial = async move {
                        let stayed = gossip.dial(topic.clone(), address).await;
                        (topic.hash, address, stayed)
                    };
                    dials.spawn(dial);
                }
            }
            if rotated.elapsed() > ROTATION {
                rotated = Instant::now();
                topics.iter().for_each(|t| t.rotate(self.limit));
            }
            tokio::select! {
                () = self.stop.cancelled() => return,
                Some(Ok((topic, address, stayed))) = dials.join_next() => {
                    dialling.remove(&(topic, address));
                    match stayed {
                        true => drop(rests.0.remove(&(topic, address))),
                        false => rests.failed(topic, address),
                    }
                }
                _ = changes.changed() => {}
                () = tokio::time::sleep(TICK) => {}
            }
            // Addresses that nobody knows any more need no rest.
            if rests.0.len() > 2 * MAX_PEERS {
                rests.0.retain(|_, (until, _)| *until > Instant::now());
            }
        }
    }

    /// Addresses that would get a slot, the best first.
    fn candidates(&self, topic: &Topic) -> Vec<(Kind, SocketAddr)> {
        let neighbours = topic.neighbours();
        let connected: HashSet<SocketAddr> =
            neighbours.iter().filter_map(|n| n.contact()).collect();
        let dialled = self.limit * DIALLED.0 / DIALLED.1;
        let room = |kind| match kind {
            Kind::Seedbox | Kind::Stranger => neighbours.len() < dialled,
            Kind::Named | Kind::Lan => topic.has_room(kind, self.limit),
        };
        let mut known = self.peers.dialable();
        known.shuffle(&mut rand::rng());
        let mut kinds: Vec<(Kind, SocketAddr)> = known
            .into_iter()
            .filter(|address| !connected.contains(address))
            .map(|address| (self.kind(&address), address))
            .filter(|(kind, _)| room(*kind))
            .filter(|(kind, address)| !topic.is_crowded(*kind, address.ip(), self.limit))
            .collect();
        kinds.sort_by_key(|(kind, _)| *kind as u8);
        kinds
    }
}

/// Takes the best candidate of the kind that is being dialled least: whoever tells of many addresses of one kind does
/// not keep the others waiting.
fn take_fairly(
    candidates: &mut Vec<(Kind, SocketAddr)>,
    dialling: &Dialling,
) -> Option<(Kind, SocketAddr)> {
    let running = |kind: Kind| dialling.values().filter(|other| **other == kind).count();
    let next = candidates.iter().enumerate();
    let (next, _) = next.min_by_key(|(_, (kind, _))| running(*kind))?;
    Some(candidates.remove(next))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_dialled() {
        let address = |i: usize| SocketAddr::from(([10, 0, 0, 1], i as u16 + 1));
        let mut candidates: Vec<(Kind, SocketAddr)> =
            (0..20).map(|i| (Kind::Lan, address(i))).collect();
        candidates.extend((20..22).map(|i| (Kind::Stranger, address(i))));
        let mut dialling = Dialling::new();
        for _ in 0..MAX_DIALLING {
            let (kind, address) = take_fairly(&mut candidates, &dialling).unwrap();
            dialling.insert((InfoHash::from_bytes([1; 20]), address), kind);
        }
        let strangers = dialling.values().filter(|kind| **kind == Kind::Stranger);
        assert_eq!(strangers.count(), 2);
        assert_eq!(dialling.len(), MAX_DIALLING);
    }
}
