//! One topic connection: an ordinary BitTorrent connection whose torrent nobody has, so that a stock client that comes
//! along finds a peer without pieces. What both sides say beyond that they say in messages.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, interval_at, timeout};

use crate::manifest::PointerError;
use crate::swarm::protocol::{IncomingError, PeerMessage, PeerReader, WireError, messages};

use super::Gossip;
use super::greeting::Greeted;
use super::layers::{MAX_ASKED, RowName};
use super::message::{Hello, Message, MessageError};
use super::neighbour::Neighbour;
use super::row_set::RowSetError;
use super::told::Told;
use super::topic::{Holdings, Topic};

/// A neighbour that takes no bytes for so long is gone.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Something is said at least so often, and its absence noticed after a little more than two of these.
const KEEP_ALIVE: Duration = Duration::from_secs(90);
const SILENCE: Duration = Duration::from_secs(200);
/// Whoever finds all slots taken says hello and gets pointer and peers within this time.
const VISIT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum ConnectionError {
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    #[error("no answer in time")]
    Silent,
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the peer does not gossip")]
    Stock,
    #[error("the peer is this machine itself")]
    Ourselves,
    #[error("all slots are taken, there or here")]
    Full,
    #[error("the peer broke its word before")]
    Shunned,
    #[error(transparent)]
    Message(#[from] MessageError),
    #[error(transparent)]
    Rows(#[from] RowSetError),
    #[error("a pointer is refused: {0}")]
    Pointer(#[from] PointerError),
    #[error("the peer sends more than it may")]
    Flood,
}

/// Rows whose info dicts one neighbour may wait for, beside those that are being looked for.
const MAX_WANTED: usize = MAX_ASKED as usize;

/// A connection and what was said on it so far.
pub struct Connection {
    gossip: Arc<Gossip>,
    topic: Arc<Topic>,
    neighbour: Arc<Neighbour>,
    extension: u8,
    write: OwnedWriteHalf,
    out: BytesMut,
    told: Told,
    /// Whether the neighbour has said hello.
    introduced: bool,
    has_slot: bool,
    /// The task that answers for info dicts, and the rows asked for meanwhile.
    answering: Option<JoinHandle<()>>,
    wanted: Vec<RowName>,
}

impl Connection {
    pub fn new(
        gossip: Arc<Gossip>,
        topic: Arc<Topic>,
        neighbour: Arc<Neighbour>,
        greeted: Greeted,
    ) -> (Self, PeerReader<OwnedReadHalf>) {
        let connection = Self {
            gossip,
            topic,
            neighbour,
            extension: greeted.extension,
            write: greeted.write,
            out: BytesMut::new(),
            told: Told::default(),
            introduced: false,
            has_slot: false,
            answering: None,
            wanted: vec![],
        };
        (connection, greeted.reader)
    }

    /// Speaks with a neighbour that has a slot, until either side leaves.
    pub async fn run(
        mut self,
        mut reader: PeerReader<OwnedReadHalf>,
        mut outbox: mpsc::Receiver<Message>,
    ) -> Result<(), ConnectionError> {
        let (gossip, neighbour) = (self.gossip.clone(), self.neighbour.clone());
        let mut layers = self.topic.watch_layers();
        let mut holdings = self.topic.watch_holdings();
        let mut pointers = gossip.pointers.subscribe();
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        layers.mark_unchanged();
        self.has_slot = true;
        self.put_hello();
        self.put_pointers();
        if self.introduced {
            self.put_holdings(&holdings.borrow_and_update().clone());
            gossip.met(&self.topic, &neighbour);
        }
        loop {
            self.flush().await?;
            tokio::select! {
                () = neighbour.stop.cancelled() => return Ok(()),
                // What is not shared any more is not told any more.
                () = gossip.policy.refuses(neighbour.address), if !neighbour.mute => return Ok(()),
                message = timeout(SILENCE, reader.next()) => {
                    let message = message.map_err(|_| ConnectionError::Silent)?;
                    match message {
                        Ok(PeerMessage::Gossip(bytes)) => self.hear(&bytes)?,
                        Ok(_) if !neighbour.budget.takes_message(0) => return Err(ConnectionError::Flood),
                        Ok(_) => {}
                        Err(WireError::Closed) => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
                message = outbox.recv() => match message {
                    Some(message) => self.put(&message),
                    None => return Ok(()),
                },
                () = ended(&mut self.answering) => self.answer_infos(vec![]),
                changed = layers.changed() => {
                    if changed.is_err() { return Ok(()); }
                    neighbour.retain(&layers.borrow_and_update());
                    self.put_hello();
                    self.put_holdings(&holdings.borrow_and_update().clone());
                }
                changed = holdings.changed() => {
                    if changed.is_err() { return Ok(()); }
                    self.put_holdings(&holdings.borrow_and_update().clone());
                }
                changed = pointers.changed() => {
                    if changed.is_err() { return Ok(()); }
                    self.put_pointers();
                }
                _ = keep_alive.tick() => messages::put_keep_alive(&mut self.out),
            }
        }
    }

    /// Hears the hello of one that found no slot, and tells it where else to go, unless it is let in after all.
    pub async fn receive_visitor(
        &mut self,
        reader: &mut PeerReader<OwnedReadHalf>,
    ) -> Result<(), ConnectionError> {
        self.put_hello();
        self.put_pointers();
        self.flush().await?;
        let hello = async {
            while !self.introduced {
                if let PeerMessage::Gossip(bytes) = reader.next().await? {
                    self.hear(&bytes)?;
                }
            }
            self.flush().await
        };
        timeout(VISIT, hello)
            .await
            .map_err(|_| ConnectionError::Silent)?
    }

    fn hear(&mut self, bytes: &Bytes) -> Result<(), ConnectionError> {
        if !self.neighbour.budget.takes_message(bytes.len()) {
            return Err(ConnectionError::Flood);
        }
        let Some(message) = Message::decode(bytes)? else {
            return Ok(());
        };
        let (gossip, topic, neighbour) = (&self.gossip, &self.topic, &self.neighbour);
        let layers = topic.layers();
        match message {
            Message::Hello(hello) => return self.hear_hello(hello),
            Message::Pointer(pointer) => {
                gossip.pointers.offer_bytes(&pointer)?;
            }
            // Who is there comes first: who has no slot has no say, and costs little.
            _ if !self.introduced => {}
            Message::Have(haves) => {
                if neighbour.set_have(&layers, &haves)? {
                    gossip.holders_changed();
                }
            }
            Message::Getting(rows) => {
                if neighbour.set_getting(&layers, &rows)? {
                    gossip.holders_changed();
                }
            }
            Message::WantInfo(rows) => {
                let rows = layers.decode_question(&rows)?;
                if !neighbour.mute && neighbour.budget.takes_dicts(rows.len()) {
                    self.answer_infos(rows);
                }
            }
            Message::Info(dicts) => gossip.questions.heard_infos(dicts),
            Message::WhoHas { id, rows } => {
                let rows = layers.decode_question(&rows)?;
                let holders = if neighbour.budget.takes_rows(rows.len()) {
                    gossip.holders_for(topic, neighbour, rows)
                } else {
                    vec![]
                };
                self.put(&Message::Has { id, holders });
            }
            Message::Has { id, mut holders } => {
                holders.retain(|holder| gossip.may_tell(neighbour, holder.address));
                let questions = &gossip.questions;
                if questions.answered(neighbour, id, &holders, &layers)? {
                    gossip.holders_changed();
                }
            }
            Message::DialBack { layer, row } => {
                if neighbour.budget.takes_dial() {
                    gossip.dial_back(topic, neighbour, (layer, row));
                }
            }
            Message::Seen { open, .. } => gossip.reach.heard(neighbour, open),
            Message::Peers(peers) => {
                if neighbour.budget.takes_peers() {
                    gossip.heard_peers(neighbour, peers);
                }
            }
        }
        Ok(())
    }

    fn hear_hello(&mut self, hello: Hello) -> Result<(), ConnectionError> {
        let first = !self.introduced;
        self.introduced = true;
        self.told.hello(&hello);
        self.neighbour.set_hello(hello);
        let contact = self.neighbour.contact();
        if contact.is_some_and(|contact| self.gossip.peers.is_banned(contact)) {
            return Err(ConnectionError::Shunned);
        }
        if first {
            let peers = self.gossip.peers_for(&self.neighbour);
            if !peers.is_empty() {
                self.put(&Message::Peers(peers));
            }
        }
        if self.has_slot {
            let holdings = self.topic.watch_holdings().borrow().clone();
            self.put_holdings(&holdings);
            if first {
                self.gossip.met(&self.topic, &self.neighbour);
            }
        }
        Ok(())
    }

    /// Answers for these rows when what was asked before is answered: none of them is asked for again soon.
    fn answer_infos(&mut self, rows: Vec<RowName>) {
        self.wanted.extend(rows);
        self.wanted.truncate(MAX_WANTED);
        if self.answering.is_none() && !self.wanted.is_empty() {
            let rows = std::mem::take(&mut self.wanted);
            let answering = self
                .gossip
                .answer_infos(&self.topic, &self.neighbour, &rows);
            self.answering = Some(answering);
        }
    }

    fn put(&mut self, message: &Message) {
        messages::put_extended(&mut self.out, self.extension, &message.encode());
    }

    fn put_hello(&mut self) {
        let hello = self.gossip.hello_for(&self.topic, &self.neighbour);
        self.put(&Message::Hello(hello));
    }

    /// Tells what has changed in what this machine has.
    fn put_holdings(&mut self, holdings: &Holdings) {
        if !self.neighbour.mute {
            let news = self
                .told
                .holdings(holdings, &self.neighbour, &self.topic.layers());
            news.iter().for_each(|message| self.put(message));
        }
    }

    fn put_pointers(&mut self) {
        let news = self
            .told
            .pointers(self.gossip.pointers.passed_on(&self.topic.hash));
        news.iter().for_each(|message| self.put(message));
    }

    async fn flush(&mut self) -> Result<(), ConnectionError> {
        if !self.out.is_empty() {
            timeout(WRITE_TIMEOUT, self.write.write_all(&self.out))
                .await
                .map_err(|_| ConnectionError::Silent)?
                .map_err(WireError::from)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Resolves when the task has ended, and never without one.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        // A panic in it ends only this answer.
        Some(running) => drop(running.await),
        None => std::future::pending().await,
    }
    *task = None;
}
