//! Whether ports can be reached: a neighbour's from here, and this machine's own from its neighbours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::timeout;

use super::Gossip;
use super::greeting::peer_id_at;
use super::message::Message;
use super::neighbour::Neighbour;
use super::topic::Topic;

/// From the connect to the handshake.
const PROBE_TIMEOUT: Duration = Duration::from_secs(6);

/// What is known of this machine's peer port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Unknown,
    Open,
    /// Nobody could reach it, so many tried.
    Closed(usize),
}

impl Port {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Open => "open",
            Self::Closed(_) => "closed",
        }
    }
}

/// What neighbours say of our port. A neighbour on the LAN says nothing of the way in from outside.
#[derive(Default)]
pub struct Reach(Mutex<HashMap<u64, Vote>>);

struct Vote {
    open: bool,
    near: bool,
}

impl Reach {
    pub fn heard(&self, neighbour: &Neighbour, open: bool) {
        let near = neighbour.is_near;
        self.lock().insert(neighbour.id, Vote { open, near });
    }

    pub fn forget(&self, neighbour: u64) {
        self.lock().remove(&neighbour);
    }

    pub fn port(&self) -> Port {
        let votes = self.lock();
        let far = votes.values().any(|vote| !vote.near);
        let mut counted = votes.values().filter(|vote| !far || !vote.near).peekable();
        if counted.peek().is_none() {
            return Port::Unknown;
        }
        let (open, closed): (Vec<&Vote>, Vec<&Vote>) = counted.partition(|vote| vote.open);
        match open.is_empty() {
            true => Port::Closed(closed.len()),
            false => Port::Open,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Vote>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Gossip {
    /// Tries the port that a neighbour names, at its own address, and tells it what came of it.
    pub(super) fn probe(self: &Arc<Self>, topic: &Arc<Topic>, neighbour: &Arc<Neighbour>) {
        let Some(contact) = neighbour.contact().filter(|_| !neighbour.dialled) else {
            return;
        };
        let (gossip, topic, neighbour) = (self.clone(), topic.clone(), neighbour.clone());
        self.tasks.spawn(async move {
            let found = timeout(
                PROBE_TIMEOUT,
                peer_id_at(contact, topic.hash, gossip.peer_id),
            );
            let open = tokio::select! {
                () = neighbour.stop.cancelled() => return,
                found = found => matches!(found, Ok(Ok(found)) if found == neighbour.peer_id),
            };
            neighbour.set_open(open);
            if open {
                gossip.reached(contact);
                gossip.tell_of(&neighbour, &topic);
            }
            neighbour.tell(Message::Seen { you: contact, open });
            gossip.holders_changed();
        });
    }
}
