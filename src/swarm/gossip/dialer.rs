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
        let mut dialling: HashSet<(InfoHash, SocketAddr)> = HashSet::new();
        let mut dials: JoinSet<(InfoHash, SocketAddr, bool)> = JoinSet::new();
        let mut changes = self.peers.changes();
        let mut rotated = Instant::now();
        loop {
            let topics = self.topics();
            for topic in &topics {
                for address in self.candidates(topic) {
                    if dials.len() >= MAX_DIALLING {
                        break;
                    }
                    if dialling.contains(&(topic.hash, address)) || rests.rests(topic.hash, address)
                    {
                        continue;
                    }
                    dialling.insert((topic.hash, address));
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
    fn candidates(&self, topic: &Topic) -> Vec<SocketAddr> {
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
            .collect();
        kinds.sort_by_key(|(kind, _)| *kind as u8);
        kinds.into_iter().map(|(_, address)| address).collect()
    }
}
