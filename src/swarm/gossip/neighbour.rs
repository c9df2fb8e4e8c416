//! One neighbour of a topic: where it is, what it says that it has, and whether that was true.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::layers::{Layers, MAX_ASKED, RowName};
use super::message::{Have, Hello, LayerId, LayerRows, Message};
use super::row_set::{RowSet, RowSetError};

/// Claims in a row that came to nothing, until a neighbour is believed no more. Paths are collected and seeders are
/// full at times: one alone says little.
const MAX_STRIKES: u32 = 5;

/// How a download gets at what a neighbour has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Direct(SocketAddr),
    /// Its port cannot be reached: it is asked to connect to us.
    DialBack,
    /// It serves nobody, or not us.
    Closed,
}

pub struct Neighbour {
    pub id: u64,
    /// Where the connection leads.
    pub address: SocketAddr,
    /// Whether we opened it.
    pub dialled: bool,
    pub peer_id: [u8; 20],
    our_id: [u8; 20],
    /// It is not within what is shared: it is told what we ask, and nothing else.
    pub mute: bool,
    /// Whether it is on this machine's own networks.
    pub is_near: bool,
    pub since: Instant,
    pub budget: Arc<Budget>,
    /// Ends the connection.
    pub stop: CancellationToken,
    outbox: mpsc::Sender<Message>,
    strikes: AtomicU32,
    said: Mutex<Said>,
}

#[derive(Default)]
struct Said {
    hello: Option<Hello>,
    haves: HashMap<LayerId, RowSet>,
    getting: HashMap<LayerId, RowSet>,
    /// Whether its port was reached from here; unknown until it was tried.
    open: Option<bool>,
}

/// What the listener or the dialer knows of a connection when it becomes a neighbour.
pub struct Introduction {
    pub id: u64,
    pub address: SocketAddr,
    pub dialled: bool,
    pub peer_id: [u8; 20],
    pub our_id: [u8; 20],
    pub mute: bool,
    pub is_near: bool,
    pub budget: Arc<Budget>,
    pub stop: CancellationToken,
    pub outbox: mpsc::Sender<Message>,
}

impl Neighbour {
    pub fn new(introduction: Introduction) -> Self {
        let Introduction {
            id,
            address,
            dialled,
            peer_id,
            our_id,
            mute,
            is_near,
            budget,
            stop,
            outbox,
        } = introduction;
        Self {
            id,
            address,
            dialled,
            peer_id,
            our_id,
            mute,
            is_near,
            since: Instant::now(),
            budget,
            stop,
            outbox,
            strikes: AtomicU32::new(0),
            said: Mutex::default(),
        }
    }

    /// Whether both connections lead to one machine. Everybody is shown a peer id: a copy of it comes from elsewhere.
    pub fn is_same(&self, other: &Self) -> bool {
        self.peer_id == other.peer_id && self.address.ip() == other.address.ip()
    }

    /// Of two connections between the same two, the one that the smaller id opened is kept.
    pub fn outranks(&self, other: &Self) -> bool {
        let opener = |n: &Self| if n.dialled { n.our_id } else { n.peer_id };
        opener(self) < opener(other)
    }

    /// Sends a message some time soon; one that does not take its messages misses them.
    pub fn tell(&self, message: Message) -> bool {
        self.outbox.try_send(message).is_ok()
    }

    /// Where it serves, if it says so.
    pub fn contact(&self) -> Option<SocketAddr> {
        if self.dialled {
            return Some(self.address);
        }
        let port = self.lock().hello.as_ref()?.port;
        (port != 0).then(|| SocketAddr::new(self.address.ip(), port))
    }

    pub fn way(&self) -> Way {
        if self.dialled {
            return Way::Direct(self.address);
        }
        match (self.contact(), self.lock().open) {
            (Some(contact), Some(true)) => Way::Direct(contact),
            (Some(_), _) => Way::DialBack,
            (None, _) => Way::Closed,
        }
    }

    pub fn set_open(&self, open: bool) {
        self.lock().open = Some(open);
    }

    pub fn hello(&self) -> Option<Hello> {
        self.lock().hello.clone()
    }

    pub fn set_hello(&self, hello: Hello) {
        self.lock().hello = Some(hello);
    }

    pub fn knows(&self, layer: &LayerId) -> bool {
        let said = self.lock();
        let hello = said.hello.as_ref();
        hello.is_some_and(|hello| hello.layers.contains(layer))
    }

    /// Takes over a change of its have-map; what concerns layers that are unknown here is not kept. Returns whether
    /// anything is different from before.
    pub fn set_have(&self, layers: &Layers, haves: &[Have]) -> Result<bool, RowSetError> {
        let changes = layers.decode(haves.iter().map(|have| &have.rows), u32::MAX)?;
        let fresh = haves.iter().filter(|have| have.fresh);
        let fresh: HashSet<LayerId> = fresh.map(|have| have.rows.layer).collect();
        let mut said = self.lock();
        let mut different = false;
        for (layer, change) in changes {
            if fresh.contains(&layer) {
                let before = said.haves.get(&layer);
                different |= before != Some(&change);
                said.haves.insert(layer, change);
            } else if let Some(known) = said.haves.get_mut(&layer) {
                different |= !change.is_empty();
                known.flip(&change);
            }
        }
        Ok(different)
    }

    /// Takes over what it downloads. Returns whether that is something else than before.
    pub fn set_getting(&self, layers: &Layers, parts: &[LayerRows]) -> Result<bool, RowSetError> {
        let getting = layers.decode(parts, MAX_ASKED)?;
        let mut said = self.lock();
        let different = said.getting != getting;
        said.getting = getting;
        Ok(different)
    }

    /// Forgets layers that are known here no longer.
    pub fn retain(&self, layers: &Layers) {
        let mut said = self.lock();
        said.haves.retain(|layer, _| layers.knows(layer));
        said.getting.retain(|layer, _| layers.knows(layer));
    }

    /// Whether it says that it has one of these rows, all of which have one payload.
    pub fn has(&self, rows: &[RowName]) -> bool {
        is_in(&self.lock().haves, rows)
    }

    pub fn is_getting(&self, rows: &[RowName]) -> bool {
        is_in(&self.lock().getting, rows)
    }

    /// Whether it has said what it has of these rows' layers.
    pub fn has_told(&self, rows: &[RowName]) -> bool {
        let said = self.lock();
        rows.iter().any(|(layer, _)| said.haves.contains_key(layer))
    }

    /// Whether it would have said so, had it one of these rows.
    pub fn lacks(&self, rows: &[RowName]) -> bool {
        self.has_told(rows) && !self.has(rows) && !self.is_getting(rows)
    }

    /// Something that it said came true.
    pub fn kept_its_word(&self) {
        self.strikes.store(0, Relaxed);
    }

    /// Something that it said did not; after too many of them the connection ends. Returns whether it was the last.
    pub fn broke_its_word(&self) -> bool {
        let last = self.strikes.fetch_add(1, Relaxed) + 1 == MAX_STRIKES;
        if last {
            self.stop.cancel();
        }
        last
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        self.said.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn is_in(sets: &HashMap<LayerId, RowSet>, rows: &[RowName]) -> bool {
    rows.iter()
        .any(|(layer, row)| sets.get(layer).is_some_and(|set| set.contains(*row)))
}
