//! Gossip: the agents of a channel meet on its topic and tell each other what they have (design 3.4).
//!
//! `Topic` keeps the neighbours, `Connection` speaks with one of them, `dialer` looks for more. What a download asks is
//! answered from what the neighbours have said; `Questions` goes one step further, to the neighbours' neighbours.

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

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::Release;
use crate::torrent::InfoHash;

use crate::swarm::discovery::Pointers;
use crate::swarm::discovery::{PeerBook, PeerOrigin};
use crate::swarm::protocol::Incoming;
use crate::swarm::seeding::OfferBook;
use crate::swarm::seeding::Seeder;
use crate::swarm::share::{Share, SharePolicy};

pub use dial_backs::DialBacks;
pub use layers::Layers;
pub use message::{EXTENSION, LayerId};
pub use reach::Port;
pub use report::GossipReport;
pub use row_set::RowSet;

use connection::{Connection, ConnectionError};
use greeting::Greeted;
use memory::Memory;
use message::{Hello, Message};
use neighbour::{Introduction, Neighbour};
use questions::{Questions, Queues};
use reach::Reach;
use topic::{Kind, Topic};
use visitors::{Visit, Visitors};

/// Messages that wait for a neighbour to take them.
const OUTBOX: usize = 64;
/// Uploads over connections that we opened ourselves, of all neighbours.
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
    dialled_back: Arc<Semaphore>,
    /// Wakes the look through what this machine has.
    releases: watch::Sender<u64>,
    next_id: AtomicU64,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// How a topic connection came about, and what its slot brings.
enum Entry {
    /// Whoever dialled is told.
    Dialled(oneshot::Sender<()>),
    /// The place of a visitor is free again.
    Came(Visit),
}

/// The slot of a neighbour: whichever way its connection ends, nobody waits for it any more.
struct Slot<'a> {
    gossip: &'a Gossip,
    topic: &'a Topic,
    neighbour: &'a Neighbour,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.topic.leave(self.neighbour);
        self.gossip.questions.forget(self.neighbour.id);
        self.gossip.reach.forget(self.neighbour.id);
        self.gossip.holders_changed();
    }
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
            dialled_back: Arc::new(Semaphore::new(MAX_DIALLED_BACK)),
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

    /// Speaks with one that came in on a topic; the policy allows it.
    pub async fn accept(self: &Arc<Self>, peer: Incoming, address: SocketAddr) {
        let hash = peer.hello.info_hash;
        let Some(topic) = self.topics().into_iter().find(|t| t.hash == hash) else {
            return;
        };
        let kind = self.kind_of_comer(address.ip());
        if self.memory.is_banned(address.ip()) {
            return;
        }
        let Some(visit) = self.visitors.take(kind, address.ip()) else {
            return;
        };
        let speak = async {
            let greeted = Greeted::answer(peer, self.peer_id).await?;
            self.speak(&topic, greeted, address, Entry::Came(visit))
                .await
        };
        if let Err(error) = speak.await {
            tracing::debug!(%address, %error, "a topic connection ended");
        }
    }

    /// Opens a topic connection. Returns, once that is clear, whether it came to be a neighbour; then it stays.
    async fn dial(self: &Arc<Self>, topic: Arc<Topic>, address: SocketAddr) -> bool {
        let greeted = match Greeted::dial(address, topic.hash, self.peer_id).await {
            Ok(greeted) => greeted,
            Err(error) => {
                tracing::debug!(%address, %error, "no topic connection");
                match error {
                    ConnectionError::Ourselves => self.peers.forget(&address),
                    ConnectionError::Connect(_) | ConnectionError::Silent => {
                        self.peers.saw(address, false);
                    }
                    _ => self.peers.answered(address),
                }
                return false;
            }
        };
        self.peers.saw(address, true);
        let (admitted, admission) = oneshot::channel();
        let gossip = self.clone();
        self.tasks.spawn(async move {
            let spoken = tokio::select! {
                () = gossip.stop.cancelled() => return,
                spoken = gossip.speak(&topic, greeted, address, Entry::Dialled(admitted)) => spoken,
            };
            if let Err(error) = spoken {
                tracing::debug!(%address, %error, "a topic connection ended");
            }
        });
        admission.await.is_ok()
    }

    /// The whole life of a topic connection.
    async fn speak(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        greeted: Greeted,
        address: SocketAddr,
        entry: Entry,
    ) -> Result<(), ConnectionError> {
        let (outbox, messages) = mpsc::channel(OUTBOX);
        let neighbour = Arc::new(Neighbour::new(Introduction {
            id: self.next_id.fetch_add(1, Relaxed),
            address,
            dialled: matches!(entry, Entry::Dialled(_)),
            peer_id: greeted.peer_id,
            our_id: self.peer_id,
            mute: !self.policy.allows(address),
            is_near: self.policy.is_lan(address.ip()),
            budget: self.memory.budget(address.ip()),
            stop: self.stop.child_token(),
            outbox,
        }));
        let spoken = self
            .converse(topic, &neighbour, greeted, entry, messages)
            .await;
        let budget = neighbour.budget.clone();
        self.memory.left(address.ip(), budget);
        if let Err(
            ConnectionError::Flood | ConnectionError::Message(_) | ConnectionError::Rows(_),
        ) = spoken
        {
            self.shun(&neighbour);
        }
        spoken
    }

    async fn converse(
        self: &Arc<Self>,
        topic: &Arc<Topic>,
        neighbour: &Arc<Neighbour>,
        greeted: Greeted,
        entry: Entry,
        messages: mpsc::Receiver<Message>,
    ) -> Result<(), ConnectionError> {
        let address = neighbour.address;
        let kind = self.kind(&address);
        let crowded = kind == Kind::Stranger && topic.is_crowded(address.ip(), self.limit);
        let admitted = !crowded && topic.admit(neighbour, kind, self.limit);
        let (mut connection, mut reader) =
            Connection::new(self.clone(), topic.clone(), neighbour.clone(), greeted);
        if !admitted {
            connection.receive_visitor(&mut reader).await?;
            let kind = self.kind(&neighbour.contact().unwrap_or(address));
            let admitted = (kind != Kind::Stranger && topic.admit(neighbour, kind, self.limit))
                || (!crowded && topic.admit_lonely(neighbour, kind, self.limit));
            if !admitted {
                return Err(ConnectionError::Full);
            }
        }
        match entry {
            Entry::Dialled(admitted) => drop(admitted.send(())),
            Entry::Came(visit) => drop(visit),
        }
        let _slot = Slot {
            gossip: self,
            topic,
            neighbour,
        };
        connection.run(reader, messages).await
    }

    /// What this machine says of itself to a neighbour.
    fn hello_for(&self, topic: &Topic, neighbour: &Neighbour) -> Hello {
        Hello {
            layers: topic.layers().ids(),
            neighbours: topic.count() as u64,
            port: if neighbour.mute { 0 } else { self.port },
            public: self.policy.share() == Share::Public,
            seedbox: self.seedbox && !neighbour.mute,
        }
    }

    /// A neighbour has said hello.
    fn met(self: &Arc<Self>, topic: &Arc<Topic>, neighbour: &Arc<Neighbour>) {
        if let Some(contact) = neighbour.contact() {
            let is_seedbox = neighbour.hello().is_some_and(|hello| hello.seedbox);
            let kind = match self.kind(&contact) {
                // Whom we dial we chose ourselves: nobody gets there by saying so.
                Kind::Stranger if is_seedbox && neighbour.dialled => Kind::Seedbox,
                kind => kind,
            };
            topic.set_kind(neighbour, kind);
        }
        self.probe(topic, neighbour);
        let unmet = self.questions.unmet();
        self.questions.ask(neighbour, topic, &unmet);
        self.holders_changed();
    }

    fn heard_peers(&self, from: &Neighbour, peers: Vec<SocketAddr>) {
        for peer in peers.into_iter().filter(|peer| self.may_tell(from, *peer)) {
            self.peers.add(peer, PeerOrigin::Exchange);
        }
    }

    /// Whether a neighbour can know of this address: nobody far away sends us through our own networks.
    fn may_tell(&self, neighbour: &Neighbour, address: SocketAddr) -> bool {
        neighbour.is_near || !self.policy.is_lan(address.ip())
    }

    /// An address of which others told, or which came to us, turned out to be good.
    fn reached(&self, address: SocketAddr) {
        self.peers.add(address, PeerOrigin::Exchange);
        self.peers.saw(address, true);
    }

    fn holders_changed(&self) {
        self.news.send_modify(|version| *version += 1);
    }

    fn shun(&self, neighbour: &Neighbour) {
        let address = neighbour.contact().unwrap_or(neighbour.address);
        self.peers.shun(address);
        if !neighbour.dialled {
            self.memory.ban(neighbour.address.ip());
        }
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

    /// Who comes in is at a port that says nothing of who it is.
    fn kind_of_comer(&self, address: IpAddr) -> Kind {
        if self.policy.is_lan(address) {
            Kind::Lan
        } else if self.peers.is_named_host(address) {
            Kind::Named
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
