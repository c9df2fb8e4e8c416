//! What this machine asks its neighbours: who has these rows, and what are their info dicts. Asked in batches, because
//! Nix asks for many paths at once.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::torrent::{InfoDict, InfoHash};

use super::layers::{Layers, MAX_ASKED, RowName};
use super::message::{Holder, Message, packed};
use super::neighbour::{Neighbour, Way};
use super::row_set::RowSetError;
use super::topic::Topic;

/// A batch is gathered for so long: much less than a round trip.
const GATHER: Duration = Duration::from_millis(4);
/// Payloads of one batch.
const BATCH: usize = 256;
/// Questions that wait for their batch; what does not fit is not asked.
const MAX_QUEUED: usize = 2048;
/// Payloads about which answers are remembered.
const MAX_SOUGHT: usize = 4096;
/// An answer is used for so long before the question is asked again.
const FRESH: Duration = Duration::from_secs(20);
/// After this nobody is waited for any more.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);
/// Neighbours that have a payload themselves, from which on nobody else is looked for.
const ENOUGH: usize = 3;
/// Holders remembered of one payload.
const MAX_HOLDERS: usize = 16;
/// Neighbours asked for one info dict.
const INFO_FROM: usize = 2;

/// Somebody of whom a neighbour said that it has a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub address: SocketAddr,
    /// Whether the neighbour could reach it.
    pub open: bool,
    told_by: u64,
}

struct Sought {
    asked: Instant,
    /// Neighbours that have not answered yet.
    outstanding: usize,
    found: Vec<Found>,
}

/// A question on its way.
struct Pending {
    neighbour: u64,
    asked: Instant,
    rows: HashMap<RowName, InfoHash>,
}

#[derive(Default)]
struct State {
    sought: HashMap<InfoHash, Sought>,
    pending: HashMap<u64, Pending>,
    next_id: u64,
    infos: HashMap<InfoHash, Vec<oneshot::Sender<Arc<InfoDict>>>>,
}

impl State {
    /// Takes a question back: its answer is waited for no more.
    fn end(&mut self, id: u64) -> Option<Pending> {
        let pending = self.pending.remove(&id)?;
        let asked: HashSet<InfoHash> = pending.rows.values().copied().collect();
        for info_hash in asked {
            if let Some(sought) = self.sought.get_mut(&info_hash) {
                sought.outstanding = sought.outstanding.saturating_sub(1);
            }
        }
        Some(pending)
    }
}

pub struct Questions {
    state: Mutex<State>,
    holders: mpsc::Sender<InfoHash>,
    infos: mpsc::Sender<InfoHash>,
}

/// The other end of the two queues.
pub struct Queues {
    pub holders: mpsc::Receiver<InfoHash>,
    pub infos: mpsc::Receiver<InfoHash>,
}

impl Questions {
    pub fn new() -> (Self, Queues) {
        let ((holders, holders_queue), (infos, infos_queue)) =
            (mpsc::channel(MAX_QUEUED), mpsc::channel(MAX_QUEUED));
        let questions = Self {
            state: Mutex::default(),
            holders,
            infos,
        };
        let queues = Queues {
            holders: holders_queue,
            infos: infos_queue,
        };
        (questions, queues)
    }

    /// Asks for the holders of a payload, unless that was done a moment ago.
    pub fn seek(&self, info_hash: InfoHash) {
        {
            let mut state = self.lock();
            let now = Instant::now();
            match state.sought.get_mut(&info_hash) {
                Some(sought) if sought.asked.elapsed() < FRESH => return,
                Some(sought) => sought.asked = now,
                None => {
                    if state.sought.len() >= MAX_SOUGHT {
                        state.sought.retain(|_, s| s.asked.elapsed() < FRESH);
                    }
                    if state.sought.len() >= MAX_SOUGHT {
                        return;
                    }
                    let sought = Sought {
                        asked: now,
                        outstanding: 0,
                        found: vec![],
                    };
                    state.sought.insert(info_hash, sought);
                }
            }
        }
        let _ = self.holders.try_send(info_hash);
    }

    /// What is still looked for in vain: a new neighbour is asked as well.
    pub fn unmet(&self) -> Vec<InfoHash> {
        let state = self.lock();
        let unmet = state
            .sought
            .iter()
            .filter(|(_, s)| s.found.is_empty() && s.asked.elapsed() < FRESH);
        unmet.map(|(info_hash, _)| *info_hash).take(BATCH).collect()
    }

    /// Puts the question for these payloads to one neighbour.
    pub fn ask(&self, neighbour: &Neighbour, topic: &Topic, info_hashes: &[InfoHash]) {
        let layers = topic.layers();
        let rows = info_hashes.iter().flat_map(|info_hash| {
            let rows = layers.rows_of(info_hash).into_iter();
            rows.map(|row| (row, *info_hash))
        });
        let rows: HashMap<RowName, InfoHash> = rows
            .filter(|((layer, _), _)| neighbour.knows(layer))
            .take(MAX_ASKED as usize)
            .collect();
        if rows.is_empty() {
            return;
        }
        let named = layers.encode(rows.keys().copied());
        let asked: HashSet<InfoHash> = rows.values().copied().collect();
        let id = {
            let mut state = self.lock();
            // Whoever has not answered before the same could be asked again never will.
            let overdue = state.pending.iter();
            let overdue = overdue.filter(|(_, pending)| pending.asked.elapsed() > FRESH);
            let overdue: Vec<u64> = overdue.map(|(id, _)| *id).collect();
            overdue.iter().for_each(|id| drop(state.end(*id)));
            state.next_id += 1;
            let id = state.next_id;
            asked.iter().for_each(|info_hash| {
                if let Some(sought) = state.sought.get_mut(info_hash) {
                    sought.outstanding += 1;
                }
            });
            let neighbour = neighbour.id;
            let asked = Instant::now();
            let pending = Pending {
                neighbour,
                asked,
                rows,
            };
            state.pending.insert(id, pending);
            id
        };
        // So many rows are in few layers: one message, as a rule. What does not fit into it is not asked.
        let mut messages = packed(
            named,
            |rows| rows.rows.len(),
            |rows| Message::WhoHas { id, rows },
        );
        messages.truncate(1);
        if !messages.into_iter().all(|message| neighbour.tell(message)) {
            self.end(id);
        }
    }

    /// A neighbour says who has some of what it was asked for. Returns whether that was waited for.
    pub fn answered(
        &self,
        neighbour: &Neighbour,
        id: u64,
        holders: &[Holder],
        layers: &Layers,
    ) -> Result<bool, RowSetError> {
        let asked = self.lock().pending.get(&id).map(|p| p.neighbour);
        if asked != Some(neighbour.id) {
            return Ok(false);
        }
        let Some(pending) = self.end(id) else {
            return Ok(false);
        };
        for holder in holders {
            let rows = layers.decode_question(&holder.rows)?;
            let found = Found {
                address: holder.address,
                open: holder.open,
                told_by: neighbour.id,
            };
            let mut state = self.lock();
            for info_hash in rows.iter().filter_map(|row| pending.rows.get(row)) {
                if let Some(sought) = state.sought.get_mut(info_hash)
                    && sought.found.len() < MAX_HOLDERS
                    && sought.found.iter().all(|f| f.address != found.address)
                {
                    sought.found.push(found);
                }
            }
        }
        Ok(true)
    }

    /// A neighbour that left answers nothing any more.
    pub fn forget(&self, neighbour: u64) {
        let mut state = self.lock();
        let its = state.pending.iter();
        let its = its.filter(|(_, pending)| pending.neighbour == neighbour);
        let its: Vec<u64> = its.map(|(id, _)| *id).collect();
        its.iter().for_each(|id| drop(state.end(*id)));
    }

    fn end(&self, id: u64) -> Option<Pending> {
        self.lock().end(id)
    }

    pub fn found(&self, info_hash: &InfoHash) -> Vec<Found> {
        let state = self.lock();
        let sought = state.sought.get(info_hash);
        sought.map(|s| s.found.clone()).unwrap_or_default()
    }

    /// Holders that nobody could reach, of payloads that nobody else has.
    pub fn unreachable(&self) -> usize {
        let state = self.lock();
        let vain = state
            .sought
            .values()
            .filter(|s| s.found.iter().all(|found| !found.open));
        let holders: HashSet<SocketAddr> = vain.flat_map(|s| &s.found).map(|f| f.address).collect();
        holders.len()
    }

    /// The neighbour that named this holder.
    pub fn told_by(&self, info_hash: &InfoHash, address: &SocketAddr) -> Option<u64> {
        let found = self.found(info_hash);
        let found = found.iter().find(|found| found.address == *address);
        found.map(|found| found.told_by)
    }

    /// A holder turned out not to be one.
    pub fn strike(&self, info_hash: &InfoHash, address: &SocketAddr) {
        if let Some(sought) = self.lock().sought.get_mut(info_hash) {
            sought.found.retain(|found| found.address != *address);
        }
    }

    /// Whether an answer may still come.
    pub fn is_asking(&self, info_hash: &InfoHash) -> bool {
        self.lock().sought.get(info_hash).is_some_and(|sought| {
            let age = sought.asked.elapsed();
            age < GATHER * 4 || (sought.outstanding > 0 && age < ANSWER_TIMEOUT)
        })
    }

    /// The info dict of a payload, from a neighbour; the receiver ends when nobody could be asked.
    pub fn want_info(&self, info_hash: InfoHash) -> oneshot::Receiver<Arc<InfoDict>> {
        let (sender, receiver) = oneshot::channel();
        let first = {
            let mut state = self.lock();
            state.infos.retain(|_, waiting| {
                waiting.retain(|waiting| !waiting.is_closed());
                !waiting.is_empty()
            });
            let waiting = state.infos.entry(info_hash).or_default();
            waiting.push(sender);
            waiting.len() == 1
        };
        if first && self.infos.try_send(info_hash).is_err() {
            self.lock().infos.remove(&info_hash);
        }
        receiver
    }

    /// Asks neighbours of this topic for these info dicts; whoever waits for one that nobody has is told so.
    pub fn ask_infos(&self, topics: &[Arc<Topic>], info_hashes: &[InfoHash]) {
        let mut asked = HashSet::new();
        for topic in topics {
            let layers = topic.layers();
            let mut batches: HashMap<u64, (Arc<Neighbour>, Vec<RowName>)> = HashMap::new();
            let neighbours = topic.neighbours();
            for info_hash in info_hashes {
                let rows = layers.rows_of(info_hash);
                let has = neighbours.iter().filter(|n| n.has(&rows));
                let gets = neighbours.iter().filter(|n| n.is_getting(&rows));
                for neighbour in has.chain(gets).take(INFO_FROM) {
                    asked.insert(*info_hash);
                    let batch = batches
                        .entry(neighbour.id)
                        .or_insert_with(|| (neighbour.clone(), vec![]));
                    batch.1.extend(&rows);
                }
            }
            for (neighbour, mut rows) in batches.into_values() {
                rows.truncate(MAX_ASKED as usize);
                let rows = layers.encode(rows);
                for message in packed(rows, |rows| rows.rows.len(), Message::WantInfo) {
                    neighbour.tell(message);
                }
            }
        }
        let mut state = self.lock();
        for info_hash in info_hashes.iter().filter(|i| !asked.contains(*i)) {
            state.infos.remove(info_hash);
        }
    }

    /// Info dicts that a neighbour sent; those that nobody waits for are dropped.
    pub fn heard_infos(&self, dicts: Vec<Vec<u8>>) {
        for dict in dicts {
            let waiting = self.lock().infos.remove(&InfoHash::of(&dict));
            let info = waiting.and_then(|w| Some((w, InfoDict::decode(&dict).ok()?)));
            if let Some((waiting, info)) = info {
                let info = Arc::new(info);
                waiting
                    .into_iter()
                    .for_each(|waiting| drop(waiting.send(info.clone())));
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// The next batch of a queue; `None` when it has ended.
pub async fn gather(queue: &mut mpsc::Receiver<InfoHash>) -> Option<Vec<InfoHash>> {
    let mut batch = vec![queue.recv().await?];
    tokio::time::sleep(GATHER).await;
    while batch.len() < BATCH
        && let Ok(more) = queue.try_recv()
    {
        batch.push(more);
    }
    Some(batch)
}

/// Whether enough neighbours have a payload themselves.
pub fn is_met(neighbours: &[Arc<Neighbour>], rows: &[RowName]) -> bool {
    let direct = |n: &&Arc<Neighbour>| matches!(n.way(), Way::Direct(_)) && n.has(rows);
    neighbours.iter().filter(direct).count() >= ENOUGH
}
