//! Gossip: the agents of a channel meet on its topic and tell each other what they have.
//!
//! `Topic` keeps the neighbours, `Connection` speaks with one of them, `dialer` looks for more. What a download asks is
//! answered from what the neighbours have said; `Questions` goes one step further, to the neighbours' neighbours.

mod admission;
mod answers;
mod budget;
mod connection;
mod dial_backs;
mod dialer;
mod greeting;
mod holders;
#[cfg(test)]
pub mod lab;
mod layers;
mod memory;
mod message;
mod neighbour;
mod questions;
mod reach;
mod report;
mod row_set;
mod told;
mod topic;
mod upkeep;
mod visitors;

use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Release;
use crate::torrent::InfoHash;

use crate::swarm::discovery::{PeerBook, PeerOrigin, Pointers};
use crate::swarm::seeding::{OfferBook, Places, Seeder};
use crate::swarm::share::SharePolicy;

pub use dial_backs::DialBacks;
pub use layers::Layers;
pub use message::LayerId;
pub use reach::Port;
pub use report::GossipReport;
pub use row_set::RowSet;

use memory::Memory;
use neighbour::Neighbour;
use questions::{Questions, Queues};
use reach::Reach;
use topic::{Kind, Topic};
use visitors::Visitors;

/// Uploads over connections that we opened ourselves, of all neighbours. The first that asks for nothing makes room.
const MAX_DIALLED_BACK: usize = 128;

/// What the configuration says of gossip, and what gossip is made of.
pub struct GossipParts {
    pub peer_id: [u8; 20],
    pub port: u16,
    pub seedbox: bool,
    /// Neighbours of each topic at most.
    pub neighbours: usize,
    pub policy: Arc<SharePolicy>,
    pub peers: Arc<PeerBook>,
    pub pointers: Arc<Pointers>,
    pub book: Arc<OfferBook>,
    pub seeder: Arc<Seeder>,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

pub struct Gossip {
    peer_id: [u8; 20],
    port: u16,
    seedbox: bool,
    limit: usize,
    policy: Arc<SharePolicy>,
    peers: Arc<PeerBook>,
    pointers: Arc<Pointers>,
    book: Arc<OfferBook>,
    seeder: Arc<Seeder>,
    topics: RwLock<Vec<Arc<Topic>>>,
    questions: Questions,
    reach: Reach,
    pub dial_backs: DialBacks,
    /// Rises when somebody may have something that nobody had before.
    news: watch::Sender<u64>,
    /// Those who came in and have no slot yet.
    visitors: Arc<Visitors>,
    memory: Memory,
    /// Connections that we opened because a neighbour asked.
    dialled_back: Places,
    /// Wakes the look through what this machine has.
    releases: watch::Sender<u64>,
    next_id: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Gossip {
    /// Starts looking for neighbours; there is nobody to look for before `set_topics`.
    pub fn start(parts: GossipParts) -> Arc<Self> {
        let (questions, queues) = Questions::new();
        let gossip = Arc::new(Self {
            peer_id: parts.peer_id,
            port: parts.port,
            seedbox: parts.seedbox,
            limit: parts.neighbours,
            policy: parts.policy,
            peers: parts.peers,
            pointers: parts.pointers,
            book: parts.book,
            seeder: parts.seeder,
            topics: RwLock::default(),
            questions,
            reach: Reach::default(),
            dial_backs: DialBacks::default(),
            news: watch::Sender::new(0),
            visitors: Arc::default(),
            memory: Memory::default(),
            dialled_back: Places::new(MAX_DIALLED_BACK),
            releases: watch::Sender::new(0),
            next_id: AtomicU64::new(0),
            tasks: parts.tasks,
            stop: parts.stop,
        });
        let Queues { holders, infos } = queues;
        gossip.tasks.spawn(gossip.clone().keep_slots_filled());
        gossip.tasks.spawn(gossip.clone().watch_holdings());
        let ask = |queue, question| gossip.clone().ask(queue, question);
        gossip.tasks.spawn(ask(holders, Self::ask_for_holders));
        gossip.tasks.spawn(ask(infos, Self::ask_for_infos));
        gossip
    }

    /// The followed channels: where each meets, and its kept releases, the newest first.
    pub fn set_topics(&self, channels: impl IntoIterator<Item = (InfoHash, Vec<Release>)>) {
        let before = self.topics();
        let mut topics = Vec::new();
        for (hash, releases) in channels {
            let known = before.iter().find(|topic| topic.hash == hash);
            let topic = known.cloned().unwrap_or_else(|| Arc::new(Topic::new(hash)));
            topic.set_releases(releases);
            topics.push(topic);
        }
        for old in before {
            if topics.iter().all(|topic| topic.hash != old.hash) {
                old.neighbours().iter().for_each(|n| n.stop.cancel());
            }
        }
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = topics;
        self.releases.send_modify(|version| *version += 1);
    }

    pub fn is_topic(&self, hash: &InfoHash) -> bool {
        self.topics().iter().any(|topic| topic.hash == *hash)
    }

    fn heard_peers(&self, from: &Neighbour, peers: Vec<SocketAddr>) {
        for peer in peers.into_iter().filter(|peer| self.may_tell(from, *peer)) {
            self.peers.add(peer, PeerOrigin::Exchange);
        }
    }

    fn may_tell(&self, neighbour: &Neighbour, address: SocketAddr) -> bool {
        self.policy.may_tell(neighbour.address.ip(), address.ip())
    }

    /// An address of which others told, or which came to us, turned out to be good.
    fn reached(&self, address: SocketAddr) {
        self.peers.add(address, PeerOrigin::Exchange);
        self.peers.saw(address, true);
    }

    fn holders_changed(&self) {
        self.news.send_modify(|version| *version += 1);
    }

    fn ban(&self, neighbour: &Neighbour) {
        let address = neighbour.contact().unwrap_or(neighbour.address);
        self.peers.ban(address);
        if !neighbour.dialled {
            self.memory.ban(neighbour.address.ip());
        }
    }

    /// How many neighbours speak of this channel.
    pub fn neighbours_of(&self, topic: &InfoHash) -> usize {
        let topics = self.topics();
        let topic = topics.iter().find(|known| known.hash == *topic);
        topic.map_or(0, |topic| topic.count())
    }

    pub fn report(&self) -> GossipReport {
        let topics = self.topics();
        GossipReport {
            neighbours: topics.iter().map(|topic| topic.count()).sum(),
            port: self.reach.port(),
            unreachable: self.questions.unreachable(),
        }
    }

    fn kind(&self, address: &SocketAddr) -> Kind {
        if self.peers.is_named(address) {
            Kind::Named
        } else if self.policy.is_lan(address.ip()) {
            Kind::Lan
        } else {
            Kind::Stranger
        }
    }

    fn topics(&self) -> Vec<Arc<Topic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}
