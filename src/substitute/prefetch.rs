//! Fetching ahead: Nix asks for all narinfos of a batch first and then takes the NARs one at a time or a few at once.
//!
//! At the narinfo the info dict is sought, so that the NAR can start at once. When the first NAR of a batch is asked,
//! it is no mere query: the rest is downloaded ahead, within bounds. What is never asked for counts as wasted.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::catalog::Entry;
use crate::runtime::Counters;
use crate::swarm::{Downloads, Expected, Fetch, Wanted};
use crate::torrent::InfoHash;

/// Info dicts sought at once; each asks up to four peers.
const PARALLEL_INFOS: usize = 16;
/// Downloads ahead at once: enough to hide the round trips of small NARs, few enough to leave the link to the NAR that
/// Nix waits for.
const PARALLEL_DOWNLOADS: usize = 8;
/// Rows that wait for their batch: a large system's closure.
const MAX_WAITING: usize = 8192;
/// A narinfo that no NAR followed for so long was a query.
const BATCH_AGE: Duration = Duration::from_secs(120);
/// What was fetched ahead and not asked for by then was fetched in vain.
const WASTED_AFTER: Duration = Duration::from_secs(900);
/// The share of the cache that may be filled with what nobody has asked for yet.
const BUDGET_DIVISOR: u64 = 2;

pub struct Prefetch {
    downloads: Arc<Downloads>,
    counters: Arc<Counters>,
    infos: Arc<Semaphore>,
    running: Arc<Semaphore>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Asked for as narinfos, in that order.
    waiting: VecDeque<(Instant, Wanted)>,
    /// Downloaded or downloading ahead, with the payload's size; not asked for yet.
    ahead: HashMap<InfoHash, (Instant, u64)>,
}

impl Prefetch {
    pub fn new(downloads: Arc<Downloads>, counters: Arc<Counters>) -> Arc<Self> {
        Arc::new(Self {
            downloads,
            counters,
            infos: Arc::new(Semaphore::new(PARALLEL_INFOS)),
            running: Arc::new(Semaphore::new(PARALLEL_DOWNLOADS)),
            state: Mutex::default(),
        })
    }

    /// Nix has asked for a narinfo of a row that is not installed.
    pub fn narinfo_asked(self: &Arc<Self>, row: &Entry) {
        if !self.downloads.has_peers() || self.downloads.kept(&row.info_hash).is_some() {
            return;
        }
        let wanted = Wanted {
            info_hash: row.info_hash,
            length: Expected::Exactly(row.payload_length),
        };
        {
            let mut state = self.lock();
            if state.waiting.len() >= MAX_WAITING
                || state.waiting.iter().any(|(_, waiting)| *waiting == wanted)
            {
                return;
            }
            state.waiting.push_back((Instant::now(), wanted));
        }
        let prefetch = self.clone();
        tokio::spawn(async move {
            let Ok(_permit) = prefetch.infos.acquire().await else {
                return;
            };
            // The NAR's own request says what is wrong, should it come.
            let _ = prefetch.downloads.info(wanted).await;
        });
    }

    /// Nix has asked for a NAR: the rest of its batch will follow.
    pub fn nar_asked(self: &Arc<Self>, info_hash: &InfoHash) {
        let batch: Vec<Wanted> = {
            let mut state = self.lock();
            state.ahead.remove(info_hash);
            let wasted: u64 = state
                .ahead
                .extract_if(|_, (at, _)| at.elapsed() > WASTED_AFTER)
                .map(|(_, (_, bytes))| bytes)
                .sum();
            self.counters.wasted(wasted);
            let fresh = state
                .waiting
                .drain(..)
                .filter(|(at, _)| at.elapsed() < BATCH_AGE);
            fresh
                .map(|(_, wanted)| wanted)
                .filter(|wanted| wanted.info_hash != *info_hash)
                .collect()
        };
        if !batch.is_empty() {
            tokio::spawn(self.clone().fetch_all(batch));
        }
    }

    async fn fetch_all(self: Arc<Self>, batch: Vec<Wanted>) {
        for wanted in batch {
            let Ok(permit) = self.running.clone().acquire_owned().await else {
                return;
            };
            if self.downloads.kept(&wanted.info_hash).is_some() || !self.take_budget(wanted) {
                continue;
            }
            let prefetch = self.clone();
            tokio::spawn(async move {
                let _permit = permit;
                prefetch.fetch(wanted).await;
            });
        }
    }

    /// Downloads one payload; it stays in the cache until Nix asks or it is evicted.
    async fn fetch(&self, wanted: Wanted) {
        let download = match self.downloads.fetch(wanted).await {
            Ok(Fetch::Running(download)) => download,
            Ok(Fetch::Kept(_)) => return,
            Err(error) => {
                tracing::debug!(info_hash = %wanted.info_hash, %error, "not fetched ahead");
                self.lock().ahead.remove(&wanted.info_hash);
                return;
            }
        };
        let mut progress = download.part().progress();
        while !download.part().is_complete() && download.part().failure().is_none() {
            let moved = tokio::time::timeout(WASTED_AFTER, progress.changed()).await;
            if !matches!(moved, Ok(Ok(()))) {
                break;
            }
        }
    }

    /// Notes that this payload is fetched ahead, if that keeps within bounds.
    fn take_budget(&self, wanted: Wanted) -> bool {
        let Expected::Exactly(bytes) = wanted.length else {
            return false;
        };
        let mut state = self.lock();
        let taken: u64 = state.ahead.values().map(|(_, bytes)| bytes).sum();
        let fits = taken + bytes <= self.downloads.cache_size() / BUDGET_DIVISOR;
        if fits {
            state
                .ahead
                .insert(wanted.info_hash, (Instant::now(), bytes));
        }
        fits
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}
