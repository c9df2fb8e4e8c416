//! All crowds of this machine's seeder: one per payload that somebody downloads from it now, none for the others.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::torrent::{Bitfield, InfoHash};

use super::crowd::{Crowd, Joining, News, Who};

/// A payload with fewer pieces (2 MiB) is there before anybody could be told of anybody.
pub const CROWD_PIECES: u32 = 8;

pub struct Crowds {
    crowds: Mutex<HashMap<InfoHash, Crowd>>,
    next_line: AtomicU64,
    /// Makes this seeder begin elsewhere than others do.
    offset: u32,
}

/// One connection in its crowd; leaves when dropped.
pub struct Line {
    crowds: Arc<Crowds>,
    info_hash: InfoHash,
    who: Who,
    line: u64,
    wake: Arc<Notify>,
}

impl Crowds {
    pub fn new(offset: u32) -> Self {
        Self {
            crowds: Mutex::default(),
            next_line: AtomicU64::new(0),
            offset,
        }
    }

    /// A connection begins: its line, and what it may see at first if that is not everything.
    pub fn join(
        self: &Arc<Self>,
        info_hash: InfoHash,
        piece_count: u32,
        who: Who,
        joining: Joining,
    ) -> (Line, Option<Bitfield>) {
        let line = Line {
            crowds: self.clone(),
            info_hash,
            who,
            line: self.next_line.fetch_add(1, Ordering::Relaxed),
            wake: Arc::default(),
        };
        let seen = self
            .lock()
            .entry(info_hash)
            .or_insert_with(|| Crowd::new(piece_count, self.offset))
            .join(who, line.line, joining, line.wake.clone());
        (line, seen)
    }

    /// Where the downloaders of this payload are reached, as far as they said.
    pub fn addresses(&self, info_hash: &InfoHash) -> Vec<SocketAddr> {
        self.lock()
            .get(info_hash)
            .map(|crowd| crowd.addresses().collect())
            .unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Crowd>> {
        self.crowds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    /// Resolves when there may be news.
    pub async fn changed(&self) {
        self.wake.notified().await;
    }

    pub fn news(&self) -> News {
        self.with(|crowd, who, line| crowd.news(who, line, Instant::now()))
    }

    pub fn has(&self, pieces: impl IntoIterator<Item = u32>) {
        self.with(|crowd, who, _| crowd.has(who, pieces));
    }

    pub fn sent(&self, piece: u32) {
        self.with(|crowd, who, _| crowd.sent(who, piece));
    }

    /// The peer asked for nothing in a while. Returns whether it could still be shown more.
    pub fn waited(&self) -> bool {
        self.with(|crowd, who, _| {
            crowd.waited(who);
            crowd.hides(who)
        })
    }

    pub fn introduce(&self, port: Option<u16>, pex: bool, ours: bool) {
        self.with(|crowd, who, line| crowd.introduce(who, line, port, pex, ours));
    }

    fn with<T: Default>(&self, act: impl FnOnce(&mut Crowd, Who, u64) -> T) -> T {
        self.crowds
            .lock()
            .get_mut(&self.info_hash)
            .map(|crowd| act(crowd, self.who, self.line))
            .unwrap_or_default()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut crowds = self.crowds.lock();
        if let Some(crowd) = crowds.get_mut(&self.info_hash)
            && crowd.leave(self.who, self.line)
        {
            crowds.remove(&self.info_hash);
        }
    }
}
