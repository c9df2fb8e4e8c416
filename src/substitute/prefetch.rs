//! Fetching ahead: Nix asks for all narinfos of a batch first and then takes the NARs one at a time or a few at once.
//!
//! At the narinfo it is found out who has the NAR, so that it can start at once. When the first NAR of a batch is asked,
//! it is no mere query: the rest is fetched ahead, in the order of Nix, from the swarm or from an upstream: many small
//! ones at once, few large ones, so that the line is full and what Nix asks next comes first. What is never asked for
//! counts as wasted.

use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::catalog::Offers;
use crate::nix::{HashPart, NarHash};
use crate::swarm::{Download, Downloads, Expected, Fetch, Prospect, Wanted};
use crate::upstream::{BreakerState, Upstream};

use super::coming::{Coming, in_order_of_nix, next_of};
use super::experience::Delivery;
use super::plan::Means;
use super::upstream_fetch::UpstreamFetch;

/// Info dicts or narinfos sought at once; each info dict asks up to four peers.
const PARALLEL_QUESTIONS: usize = 16;
/// NARs under way at once, those that Nix waits for included: enough to hide the round trips of small ones.
const PARALLEL: usize = 24;
/// NAR bytes under way ahead, beyond which nothing more is begun: a third of them on the line, what fills 100 Mbit/s at
/// 300 ms. More would only share the line among more NARs, and what Nix asks next would be there later.
const WINDOW: u64 = 12 << 20;
/// One NAR counts as at most so many of them: the next one is begun before it ends.
const LARGEST_SHARE: u64 = WINDOW / 2;
/// One that takes longer than this no longer keeps others back.
const SHARE_LASTS: Duration = Duration::from_secs(10);
/// Paths that wait for their batch: a large system's closure.
const MAX_WAITING: usize = 8192;
/// A narinfo that no NAR followed for so long was a query.
const BATCH_AGE: Duration = Duration::from_secs(120);
/// What nobody has shown by then is not looked for ahead any more: strangers are not dialled for a mere question.
const QUESTION: Duration = Duration::from_secs(20);
/// Nix has asked for nothing for so long, and waits for nothing: it was interrupted, the rest of its batch stays.
const GONE: Duration = Duration::from_secs(20);
/// What was fetched ahead and not asked for by then was fetched in vain.
const WASTED_AFTER: Duration = Duration::from_secs(900);
/// The share of the cache that may be filled with what nobody has asked for yet.
const BUDGET_DIVISOR: u64 = 2;
/// A download ahead that brings no piece for so long beyond what an upstream would need is given up for that.
const LAME: Duration = Duration::from_secs(1);
/// NAR bytes of a piece, or somewhat more.
const PIECE: u64 = 1_000_000;
/// A swarm that keeps losing is tried with one download ahead, so often at most.
const PROBE_EVERY: Duration = Duration::from_secs(10);

/// What was fetched ahead, or is being fetched.
#[derive(Clone)]
pub enum Held {
    Swarm { _download: Arc<Download> },
    Upstream { _fetch: Arc<UpstreamFetch> },
}

pub struct Prefetch {
    offers: Arc<Offers>,
    downloads: Arc<Downloads>,
    means: Means,
    questions: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Asked for as narinfos.
    waiting: HashMap<HashPart, Coming>,
    /// Whether some of them came since the queue was made.
    news: bool,
    /// To be fetched ahead, in this order.
    queue: VecDeque<Coming>,
    /// Asked for as NARs, or fetched ahead.
    taken: HashMap<HashPart, Instant>,
    upstreams: Vec<Arc<Upstream>>,
    /// How many are being fetched ahead.
    running: usize,
    /// Their shares of the window.
    window: u64,
    /// Fetched ahead or at it; not asked for yet.
    ahead: HashMap<NarHash, Ahead>,
    asked: Option<Instant>,
    probed: Option<Instant>,
}

struct Ahead {
    begun: Instant,
    /// What it takes of the cache.
    bytes: u64,
    held: Option<Held>,
}

impl Prefetch {
    pub fn new(offers: Arc<Offers>, downloads: Arc<Downloads>, means: Means) -> Arc<Self> {
        Arc::new(Self {
            offers,
            downloads,
            means,
            questions: Semaphore::new(PARALLEL_QUESTIONS),
            state: Mutex::default(),
        })
    }

    /// Nix has asked for the narinfo of a path that is not installed; `upstreams` are those to fetch it from.
    pub fn narinfo_asked(self: &Arc<Self>, path: Coming, upstreams: Vec<Arc<Upstream>>) {
        let listed = path.row.is_some();
        {
            let mut state = self.lock();
            if state.ahead.contains_key(&path.nar_hash) {
                return;
            }
            let known = state.waiting.insert(path.hash_part(), path.clone());
            if known.is_some() {
                return;
            }
            state.news = true;
            if state.waiting.len() > MAX_WAITING {
                state
                    .waiting
                    .retain(|_, path| path.asked.elapsed() < BATCH_AGE);
            }
            if state.waiting.len() > MAX_WAITING {
                state.waiting.remove(&path.hash_part());
                return;
            }
        }
        if listed {
            tokio::spawn(self.clone().find_out(path, upstreams));
        }
    }

    /// Who has a listed path: a peer that sends its info dict, else an upstream, whose narinfo is needed for the NAR.
    async fn find_out(self: Arc<Self>, path: Coming, upstreams: Vec<Arc<Upstream>>) {
        let Ok(_permit) = self.questions.acquire().await else {
            return;
        };
        if path.asked.elapsed() > BATCH_AGE {
            return;
        }
        if let Some(wanted) = wanted_of(&path)
            && (self.downloads.kept(&wanted.info_hash).is_some()
                || (self.downloads.has_peers() && self.is_shown(wanted).await))
            && !self.means.experience.avoids_swarm()
        {
            return;
        }
        if let Some(upstream) = first_well(&upstreams) {
            // The NAR's own request says what is wrong, should it come.
            let _ = self.means.narinfos.from(upstream, &path.hash_part()).await;
        }
    }

    /// Whether some peer sends the info dict.
    async fn is_shown(&self, wanted: Wanted) -> bool {
        let info = timeout(QUESTION, self.downloads.info(wanted)).await;
        matches!(info, Ok(Ok(_)))
    }

    /// Nix has asked for a NAR: the rest of its batch will follow. Returns what was fetched ahead of it.
    pub fn nar_asked(
        self: &Arc<Self>,
        hash_part: &HashPart,
        nar_hash: &NarHash,
        upstreams: &[Arc<Upstream>],
    ) -> Option<Held> {
        let held = {
            let mut state = self.lock();
            let state = &mut *state;
            state.asked = Some(Instant::now());
            state.upstreams = upstreams.to_vec();
            state.waiting.remove(hash_part);
            state.queue.retain(|path| path.nar_hash != *nar_hash);
            state.taken.insert(*hash_part, Instant::now());
            if std::mem::take(&mut state.news) {
                let lately = |at: Instant| at.elapsed() < BATCH_AGE;
                state.taken.retain(|_, at| lately(*at));
                state.waiting.retain(|_, path| lately(path.asked));
                let again = state.queue.drain(..).map(|path| (path.hash_part(), path));
                state.waiting.extend(again);
                let there = |reference: &HashPart| {
                    state.taken.contains_key(reference) || self.offers.has(reference)
                };
                state.queue = in_order_of_nix(&mut state.waiting, there).into();
            }
            state.ahead.remove(nar_hash).and_then(|ahead| ahead.held)
        };
        self.pump();
        held
    }

    /// Begins as many fetches as there is room for beside what Nix waits for.
    fn pump(self: &Arc<Self>) {
        let crowded = self.downloads.are_in_a_crowd();
        loop {
            let remote = self.means.active.remote();
            let (path, upstreams) = {
                let mut state = self.lock();
                if remote == 0 && state.asked.is_none_or(|asked| asked.elapsed() > GONE) {
                    state.queue.clear();
                }
                // The NAR that was just asked for is not among the active ones yet.
                if state.running + remote.max(1) >= PARALLEL || state.window >= WINDOW {
                    return;
                }
                let Some(next) = next_of(&mut state.queue, crowded) else {
                    return;
                };
                state.running += 1;
                state.window += share(&next);
                state.taken.insert(next.hash_part(), Instant::now());
                (next, state.upstreams.clone())
            };
            let prefetch = self.clone();
            tokio::spawn(async move {
                {
                    let mut fetch = pin!(prefetch.fetch(&path, &upstreams));
                    let soon = tokio::time::timeout(SHARE_LASTS, &mut fetch).await.is_ok();
                    prefetch.lock().window -= share(&path);
                    if !soon {
                        prefetch.pump();
                        fetch.await;
                    }
                }
                prefetch.lock().running -= 1;
                prefetch.pump();
                prefetch.expire(path.nar_hash).await;
            });
        }
    }

    /// Fetches one path; it stays until Nix asks for it, or is given up.
    async fn fetch(&self, path: &Coming, upstreams: &[Arc<Upstream>]) {
        if let Some(wanted) = wanted_of(path) {
            // Where nobody else can be asked, peers that are slow, or were not reached yet, are better than nothing.
            let waits = first_well(upstreams).is_none();
            let promises = match self.downloads.prospect(&wanted.info_hash) {
                Prospect::Here => return,
                Prospect::Shown | Prospect::Reachable => waits || self.may_ask_swarm(),
                Prospect::Nobody => waits && self.downloads.looks_for_peers(),
            };
            if promises && self.fetch_from_swarm(path, wanted, waits).await {
                return;
            }
        }
        if let Some(upstream) = first_well(upstreams)
            && self.take_budget(path, path.nar_size)
        {
            let fetch = self.means.fetches.join(upstream, &path.wanted());
            let held = Held::Upstream {
                _fetch: fetch.clone(),
            };
            if self.hold(&path.nar_hash, held) {
                fetch.ended().await;
            }
        }
    }

    /// Whether it is trusted, or due to be tried again.
    fn may_ask_swarm(&self) -> bool {
        if !self.means.experience.avoids_swarm() {
            return true;
        }
        let mut state = self.lock();
        let due = state.probed.is_none_or(|at| at.elapsed() > PROBE_EVERY);
        if due {
            state.probed = Some(Instant::now());
        }
        due
    }

    /// Returns false when somebody else should be asked. `waits`: nobody else can be.
    async fn fetch_from_swarm(&self, path: &Coming, wanted: Wanted, waits: bool) -> bool {
        let Expected::Exactly(bytes) = wanted.length else {
            return false;
        };
        if !self.take_budget(path, bytes) {
            return true;
        }
        let start = Instant::now();
        let sharing = self.means.fetches.under_way() + 1;
        let expected = |bytes| self.means.experience.expected(bytes, sharing);
        let (patience, deadline) = if waits {
            (expected(path.nar_size) + GONE, None)
        } else {
            let by = start + expected(path.nar_size) + LAME;
            (expected(path.nar_size.min(PIECE)) + LAME, Some(by))
        };
        let download = match tokio::time::timeout(patience, self.downloads.fetch(wanted)).await {
            Ok(Ok(Fetch::Running(download))) => download,
            Ok(Ok(Fetch::Kept(_))) => return true,
            Ok(Err(_)) | Err(_) => {
                self.lock().ahead.remove(&path.nar_hash);
                return false;
            }
        };
        let held = Held::Swarm {
            _download: download.clone(),
        };
        if !self.hold(&path.nar_hash, held) {
            return true;
        }
        let part = download.part().clone();
        let experience = &self.means.experience;
        let mut progress = part.progress();
        while !part.is_complete() && part.failure().is_none() {
            let moved = tokio::time::timeout(patience, progress.changed()).await;
            let late = moved.is_err() || deadline.is_some_and(|by| by < Instant::now());
            let gone = matches!(moved, Ok(Err(_)));
            let line_is_full = || experience.fills_the_line(self.means.fetches.line_rate());
            if gone || late && !line_is_full() {
                break;
            }
        }
        if part.is_complete() {
            let delivery = Delivery {
                nar_size: path.nar_size,
                took: start.elapsed(),
                sharing,
            };
            experience.swarm_delivered(start, delivery, self.means.fetches.line_rate());
            return true;
        }
        experience.swarm_failed(start);
        // Asked for meanwhile: then that request knows where else to ask.
        self.lock().ahead.remove(&path.nar_hash).is_none()
    }

    /// Notes that this path is fetched ahead, if that keeps within bounds.
    fn take_budget(&self, path: &Coming, bytes: u64) -> bool {
        let mut state = self.lock();
        if state.ahead.contains_key(&path.nar_hash) {
            return false;
        }
        let taken: u64 = state.ahead.values().map(|ahead| ahead.bytes).sum();
        let fits = taken + bytes <= self.downloads.cache_size() / BUDGET_DIVISOR;
        if fits {
            let ahead = Ahead {
                begun: Instant::now(),
                bytes,
                held: None,
            };
            state.ahead.insert(path.nar_hash, ahead);
        }
        fits
    }

    /// Keeps it for Nix. Returns false when Nix has asked already and waits for it itself.
    fn hold(&self, nar_hash: &NarHash, held: Held) -> bool {
        let mut state = self.lock();
        let Some(ahead) = state.ahead.get_mut(nar_hash) else {
            return false;
        };
        ahead.held = Some(held);
        true
    }

    /// Gives up what nobody asks for.
    async fn expire(&self, nar_hash: NarHash) {
        if !self.lock().ahead.contains_key(&nar_hash) {
            return;
        }
        tokio::time::sleep(WASTED_AFTER).await;
        let expired = {
            let mut state = self.lock();
            let old = |ahead: &mut Ahead| ahead.begun.elapsed() >= WASTED_AFTER;
            state
                .ahead
                .get_mut(&nar_hash)
                .is_some_and(old)
                .then(|| state.ahead.remove(&nar_hash))
                .flatten()
        };
        // What an upstream gave counts itself when it is dropped.
        if let Some(Ahead {
            bytes,
            held: Some(Held::Swarm { .. }),
            ..
        }) = expired
        {
            self.means.counters.wasted(bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// What a NAR takes of the window.
fn share(path: &Coming) -> u64 {
    path.nar_size.min(LARGEST_SHARE)
}

/// The payload of a path that a manifest lists.
fn wanted_of(path: &Coming) -> Option<Wanted> {
    path.row.as_ref().map(|row| Wanted {
        info_hash: row.info_hash,
        length: Expected::Exactly(row.payload_length),
    })
}

fn first_well(upstreams: &[Arc<Upstream>]) -> Option<&Arc<Upstream>> {
    upstreams
        .iter()
        .find(|upstream| upstream.state() == BreakerState::Closed)
}
