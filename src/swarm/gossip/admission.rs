//! How a connection becomes a neighbour: who gets a slot, and what is undone when it ends.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::{mpsc, oneshot};

use crate::swarm::protocol::Incoming;
use crate::swarm::share::Share;

use super::Gossip;
use super::connection::{Connection, ConnectionError};
use super::greeting::Greeted;
use super::message::{Hello, Message};
use super::neighbour::{Introduction, Neighbour};
use super::topic::{Kind, Topic};
use super::visitors::Visit;

/// Messages that wait for a neighbour to take them.
const OUTBOX: usize = 64;

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
    pub(super) async fn dial(self: &Arc<Self>, topic: Arc<Topic>, address: SocketAddr) -> bool {
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
        // What is being looked for on its behalf is of no use any more.
        neighbour.stop.cancel();
        let budget = neighbour.budget.clone();
        self.memory.left(address.ip(), budget);
        if let Err(
            ConnectionError::Flood | ConnectionError::Message(_) | ConnectionError::Rows(_),
        ) = spoken
        {
            self.ban(&neighbour);
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
        let is_crowded = |kind| topic.is_crowded(kind, address.ip(), self.limit);
        let admitted = !is_crowded(kind) && topic.admit(neighbour, kind, self.limit);
        let (mut connection, mut reader) =
            Connection::new(self.clone(), topic.clone(), neighbour.clone(), greeted);
        if !admitted {
            connection.receive_visitor(&mut reader).await?;
            let kind = self.kind(&neighbour.contact().unwrap_or(address));
            let admitted = !is_crowded(kind)
                && ((kind != Kind::Stranger && topic.admit(neighbour, kind, self.limit))
                    || topic.admit_lonely(neighbour, kind, self.limit));
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
    pub(super) fn hello_for(&self, topic: &Topic, neighbour: &Neighbour) -> Hello {
        Hello {
            layers: topic.layers().ids(),
            neighbours: topic.count() as u64,
            port: if neighbour.mute { 0 } else { self.port },
            public: self.policy.share() == Share::Public,
            seedbox: self.seedbox && !neighbour.mute,
        }
    }

    /// A neighbour has said hello.
    pub(super) fn met(self: &Arc<Self>, topic: &Arc<Topic>, neighbour: &Arc<Neighbour>) {
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
}
