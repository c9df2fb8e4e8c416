//! One fetch of a NAR from an upstream for everybody who wants it. It goes as fast as the upstream gives, its bytes wait
//! in a spool, and when nobody waits for it any more it ends.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Instant;

use futures_util::stream::StreamExt;
use tokio::sync::watch;
use tokio_util::io::ReaderStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::catalog::Entry;
use crate::nix::{HashPart, NarHash};
use crate::runtime::{Counters, Meter};
use crate::swarm::{Downloads, Spool};
use crate::upstream::Upstream;

use super::experience::Experience;
use super::line_speed::{COMPRESSION, Fetched};
use super::narinfos::Narinfos;
use super::source::SourceError;

/// Read and written at a time: worth the switch to a thread that may wait for the disk.
const CHUNK: usize = 256 * 1024;

/// What is fetched.
#[derive(Clone)]
pub struct WantedNar {
    pub hash_part: HashPart,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    /// The row whose payload the NAR makes.
    pub row: Option<Box<Entry>>,
}

/// The running fetches, by upstream and NAR.
pub struct UpstreamFetches {
    /// `None`: there is no cache for bytes to wait in.
    downloads: Option<Arc<Downloads>>,
    narinfos: Arc<Narinfos>,
    experience: Arc<Experience>,
    counters: Arc<Counters>,
    /// What upstreams send, as it comes over the line.
    meter: Meter,
    running: Mutex<HashMap<(String, NarHash), Weak<UpstreamFetch>>>,
}

/// A running or finished fetch; it is there as long as somebody holds it.
pub struct UpstreamFetch {
    state: watch::Receiver<State>,
    failure: OnceLock<Arc<SourceError>>,
    /// The most that any reader took.
    used: AtomicU64,
    reused: AtomicBool,
    counters: Arc<Counters>,
    _stop: DropGuard,
}

/// How far the fetch of a NAR is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FetchProgress {
    None,
    UnderWay,
    Whole,
}

#[derive(Clone)]
enum State {
    Opening,
    Flowing(Arc<Spool>),
    /// There is no room for it: everybody has to ask for himself.
    Unshared,
    Failed,
}

impl UpstreamFetches {
    pub fn new(
        downloads: Option<Arc<Downloads>>,
        narinfos: Arc<Narinfos>,
        experience: Arc<Experience>,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            downloads,
            narinfos,
            experience,
            counters,
            meter: Meter::default(),
            running: Mutex::default(),
        }
    }

    /// The fetch that runs, or a new one.
    pub fn join(
        self: &Arc<Self>,
        upstream: &Arc<Upstream>,
        wanted: &WantedNar,
    ) -> Arc<UpstreamFetch> {
        let key = (upstream.url().to_string(), wanted.nar_hash);
        let mut running = self.lock();
        if let Some(fetch) = running.get(&key).and_then(Weak::upgrade)
            && fetch.failure.get().is_none()
        {
            return fetch;
        }
        running.retain(|_, fetch| fetch.strong_count() > 0);
        let (sender, state) = watch::channel(State::Opening);
        let stop = CancellationToken::new();
        let fetch = Arc::new(UpstreamFetch {
            state,
            failure: OnceLock::new(),
            used: AtomicU64::new(0),
            reused: AtomicBool::new(false),
            counters: self.counters.clone(),
            _stop: stop.clone().drop_guard(),
        });
        running.insert(key, Arc::downgrade(&fetch));
        let (fetches, upstream, wanted) = (self.clone(), upstream.clone(), wanted.clone());
        let weak = Arc::downgrade(&fetch);
        tokio::spawn(async move {
            let result = tokio::select! {
                () = stop.cancelled() => Err(SourceError::Absent),
                result = fetches.run(&upstream, &wanted, &weak, &sender) => result,
            };
            // First the reason, then the end: whoever sees the end finds the reason.
            if let (Err(error), Some(fetch)) = (result, weak.upgrade()) {
                let _ = fetch.failure.set(Arc::new(error));
            }
            sender.send_modify(|state| match state {
                State::Opening => *state = State::Failed,
                State::Flowing(spool) => spool.end(),
                State::Unshared | State::Failed => {}
            });
        });
        fetch
    }

    /// Whether a NAR comes from this upstream at the moment, or has come and is still held: then it is whole.
    pub fn progress(&self, upstream: &Upstream, nar_hash: &NarHash) -> FetchProgress {
        let key = (upstream.url().to_string(), *nar_hash);
        let fetch = self.lock().get(&key).and_then(Weak::upgrade);
        match fetch.filter(|fetch| fetch.failure.get().is_none()) {
            None => FetchProgress::None,
            Some(fetch) => match &*fetch.state.borrow() {
                State::Flowing(spool) if spool.is_whole() => FetchProgress::Whole,
                _ => FetchProgress::UnderWay,
            },
        }
    }

    /// How many NARs come over the line, from upstreams and the swarm.
    pub fn under_way(&self) -> usize {
        let fetches: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        let comes = |fetch: &&Arc<UpstreamFetch>| match &*fetch.state.borrow() {
            State::Opening => true,
            State::Flowing(spool) => !spool.progress().borrow().ended,
            State::Unshared | State::Failed => false,
        };
        let downloads = self.downloads.as_ref();
        fetches.iter().filter(comes).count() + downloads.map_or(0, |downloads| downloads.count())
    }

    /// Bytes per second that come over the line lately, from upstreams and the swarm.
    pub fn line_rate(&self) -> u64 {
        self.on_the_line(Meter::bytes_per_second)
    }

    fn on_the_line(&self, read: fn(&Meter) -> u64) -> u64 {
        let downloads = self.downloads.as_ref();
        read(&self.meter) + downloads.map_or(0, |downloads| read(downloads.meter()))
    }

    async fn run(
        &self,
        upstream: &Arc<Upstream>,
        wanted: &WantedNar,
        fetch: &Weak<UpstreamFetch>,
        state: &watch::Sender<State>,
    ) -> Result<(), SourceError> {
        let Some(downloads) = &self.downloads else {
            state.send_replace(State::Unshared);
            return Ok(());
        };
        let Some(spool) = downloads.spool(wanted.nar_size).await.map(Arc::new) else {
            state.send_replace(State::Unshared);
            return Ok(());
        };
        let start = Instant::now();
        let Opened { nar, sent } = open(upstream, &self.narinfos, wanted).await?;
        let (delay, answered) = (start.elapsed(), Instant::now());
        let before = self.on_the_line(Meter::bytes);
        let nar_size = wanted.nar_size;
        state.send_replace(State::Flowing(spool.clone()));
        if let (Some(row), Some(fetch)) = (&wanted.row, fetch.upgrade()) {
            let reused = downloads.reuse(row, spool.clone());
            fetch.reused.store(reused, Relaxed);
        }
        let mut nar = ReaderStream::with_capacity(nar, CHUNK);
        while let Some(chunk) = nar.next().await {
            let chunk = chunk.map_err(SourceError::UpstreamBody)?;
            if chunk.len() as u64 > spool.size() - spool.written() {
                return Err(SourceError::WrongNar);
            }
            let came = u128::from(sent) * chunk.len() as u128 / u128::from(nar_size.max(1));
            self.meter.add(came as u64);
            spool.append(chunk).await.map_err(SourceError::Spool)?;
        }
        if !spool.is_whole() {
            return Err(SourceError::WrongNar);
        }
        self.experience.upstream_delivered(Fetched {
            nar_size,
            sent,
            line: self.on_the_line(Meter::bytes) - before,
            delay,
            flowed: answered.elapsed(),
        });
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(String, NarHash), Weak<UpstreamFetch>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The NAR as the upstream sends it now, decompressed.
pub struct Opened {
    pub nar: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// How many bytes of it go over the line; a guess where the narinfo does not say.
    pub sent: u64,
}

/// Asks the upstream for it.
pub async fn open(
    upstream: &Arc<Upstream>,
    narinfos: &Narinfos,
    wanted: &WantedNar,
) -> Result<Opened, SourceError> {
    let mut asked = None;
    loop {
        let narinfo = narinfos.from(upstream, &wanted.hash_part).await?;
        // Another build of this path, or a NAR that is gone: that is nothing to blame anybody for.
        let narinfo = narinfo
            .filter(|narinfo| narinfo.nar_hash == wanted.nar_hash)
            .filter(|narinfo| narinfo.nar_size == wanted.nar_size)
            .filter(|narinfo| asked.as_ref() != Some(&narinfo.url))
            .ok_or(SourceError::Absent)?;
        if let Some(nar) = upstream.nar(&narinfo).await? {
            let guess = match narinfo.compression.as_str() {
                "none" => wanted.nar_size,
                _ => wanted.nar_size / COMPRESSION,
            };
            let sent = narinfo.file_size.unwrap_or(guess).min(wanted.nar_size);
            return Ok(Opened { nar, sent });
        }
        // What is remembered may be older than the NAR's name.
        narinfos.forget(upstream, &wanted.hash_part);
        asked = Some(narinfo.url);
    }
}

impl UpstreamFetch {
    /// Where the bytes come in, as soon as the upstream has answered. `None` when it cannot be shared.
    pub async fn spool(&self) -> Result<Option<Arc<Spool>>, SourceError> {
        let mut state = self.state.clone();
        let state = state
            .wait_for(|state| !matches!(state, State::Opening))
            .await;
        match state.as_deref() {
            Ok(State::Flowing(spool)) => Ok(Some(spool.clone())),
            Ok(State::Unshared) => Ok(None),
            Ok(State::Opening | State::Failed) | Err(_) => Err(self.failure()),
        }
    }

    /// Resolves when nothing follows any more.
    pub async fn ended(&self) {
        if let Ok(Some(spool)) = self.spool().await {
            // An error means that the spool is gone.
            let _ = spool.progress().wait_for(|progress| progress.ended).await;
        }
    }

    /// Why nothing follows.
    pub fn failure(&self) -> SourceError {
        match self.failure.get() {
            Some(error) => SourceError::Shared(error.clone()),
            None => SourceError::Absent,
        }
    }

    /// A reader has taken so many bytes.
    pub fn used(&self, bytes: u64) {
        self.used.fetch_max(bytes, Relaxed);
    }
}

impl Drop for UpstreamFetch {
    fn drop(&mut self) {
        if let State::Flowing(spool) = &*self.state.borrow()
            // A whole NAR becomes a payload; of what was broken off perhaps a few pieces do.
            && !(spool.is_whole() && self.reused.load(Relaxed))
        {
            let unused = spool.written().saturating_sub(self.used.load(Relaxed));
            self.counters.wasted(unused);
        }
    }
}
