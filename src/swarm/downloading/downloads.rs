//! Downloads: what is wanted in, part files out. One download per info hash, whoever asks; dropped when nobody waits.

use std::collections::HashMap;
use std::fmt::Display;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::InfoDicts;
use crate::runtime::Counters;
use crate::swarm::payloads::{NoRoom, PartFile, PayloadDirectory, Room};
use crate::swarm::seeding::OfferBook;
use crate::swarm::share::SharePolicy;
use crate::torrent::{InfoDict, InfoHash};

use super::download::{Claim, Claimant, Download, Fetch};
use super::engine::Engine;
use super::info_finder::InfoFinder;
use super::metadata::MetadataError;
use super::reuse::Reusing;
use super::sources::Sources;
use super::wanted::{Expected, Wanted};

#[derive(Debug, Error)]
pub enum DownloadError {
    #[error("no peer is known: set [swarm] peers or trackers")]
    NoPeers,
    #[error("fetching the info dict: {0}")]
    Metadata(#[from] MetadataError),
    #[error("peers describe a file of {found} bytes, expected was {expected:?}")]
    Length { expected: Expected, found: u64 },
    #[error("no room for the payload: {0}")]
    Room(#[from] NoRoom),
    #[error("opening a port on loopback: {0}")]
    Local(io::Error),
    #[error("writing to {path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Shared(Arc<DownloadError>),
    #[error("librqbit: {0}")]
    Engine(String),
}

/// What downloads are made of.
pub struct DownloadsParts {
    pub sources: Arc<Sources>,
    pub infos: Arc<InfoDicts>,
    pub book: Arc<OfferBook>,
    pub directory: PayloadDirectory,
    pub counters: Arc<Counters>,
    pub policy: Arc<SharePolicy>,
    pub peer_id: [u8; 20],
    /// Where the seeder is reached.
    pub port: u16,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

pub struct Downloads {
    pub(super) engine: Engine,
    pub(super) finder: InfoFinder,
    pub(super) sources: Arc<Sources>,
    counters: Arc<Counters>,
    pub(super) infos: Arc<InfoDicts>,
    pub(super) book: Arc<OfferBook>,
    pub(super) directory: PayloadDirectory,
    pub(super) reusing: Reusing,
    running: Mutex<HashMap<InfoHash, Weak<Download>>>,
    /// Whether a payload runs or is kept is looked up and changed in one step; what is on disk of it is checked in it.
    starting: Mutex<HashMap<InfoHash, Weak<tokio::sync::Mutex<()>>>>,
    ended: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

impl Downloads {
    pub async fn start(parts: DownloadsParts) -> Result<Arc<Self>, DownloadError> {
        let (sources, infos) = (parts.sources.clone(), parts.infos.clone());
        Ok(Arc::new(Self {
            engine: Engine::start(&parts).await?,
            finder: InfoFinder::new(sources, infos, parts.peer_id),
            sources: parts.sources,
            counters: parts.counters,
            infos: parts.infos,
            book: parts.book,
            directory: parts.directory,
            reusing: Reusing::default(),
            running: Mutex::default(),
            starting: Mutex::default(),
            ended: Notify::new(),
            tasks: parts.tasks,
            stop: parts.stop,
        }))
    }

    /// The payload file, when it was downloaded before and is still kept.
    pub fn kept(&self, info_hash: &InfoHash) -> Option<PathBuf> {
        self.directory.find(info_hash)
    }

    /// Removes a kept payload that is not what its pieces say. Returns whether it was not.
    pub async fn discard_if_damaged(&self, info_hash: &InfoHash) -> bool {
        let (Some(path), Ok(Some(info))) = (self.kept(info_hash), self.infos.get(info_hash)) else {
            return false;
        };
        let whole = tokio::task::spawn_blocking(move || PartFile::is_whole(&path, &info));
        // What cannot be read now may be read later.
        if !matches!(whole.await, Ok(Ok(false))) {
            return false;
        }
        tracing::warn!(%info_hash, "the disk has spoilt a kept payload: it is fetched again");
        if let Err(error) = self.directory.remove(info_hash) {
            tracing::debug!(%info_hash, %error, "a payload could not be removed");
        }
        true
    }

    pub fn running(&self) -> Vec<Arc<Download>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    pub fn cache_size(&self) -> u64 {
        self.directory.limit()
    }

    /// The info dict: kept, or fetched from peers and kept.
    pub async fn info(&self, wanted: Wanted) -> Result<Arc<InfoDict>, DownloadError> {
        self.finder.find(wanted).await
    }

    /// The payload that is kept, the download that runs, or a new one: then as soon as there is room for it.
    pub async fn fetch(self: &Arc<Self>, wanted: Wanted) -> Result<Fetch, DownloadError> {
        if let Some(found) = self.find(&wanted.info_hash).await
            && !found.is_being_filled()
        {
            return Ok(found);
        }
        let info = self.info(wanted).await?;
        loop {
            let (freed, ended) = (self.directory.freed(), self.ended());
            let (downloads, info) = (self.clone(), info.clone());
            // On its own: whoever asked may hang up while a part file is checked.
            let begun = tokio::spawn(async move { downloads.begin(info).await }).await;
            match begun.map_err(|error| DownloadError::Engine(error.to_string()))? {
                Ok(Ok(download)) => return Ok(Fetch::Running(download)),
                Ok(Err(Fetch::Running(filled))) if filled.is_being_filled() => {
                    filled.displace();
                    drop(filled);
                    ended.await;
                }
                Ok(Err(found)) => return Ok(found),
                Err(DownloadError::Room(NoRoom::Busy)) => freed.await,
                Err(error) => return Err(error),
            }
        }
    }

    /// Starts a download, unless there is one.
    async fn begin(
        self: &Arc<Self>,
        info: Arc<InfoDict>,
    ) -> Result<Result<Arc<Download>, Fetch>, DownloadError> {
        let claim = self.claim(info, Claimant::Swarm).await?;
        Ok(claim.map(|Claim { download, room }| {
            let (part, stop) = (download.part().clone(), download.stop().clone());
            self.tasks.spawn(self.clone().run(part, room, stop));
            download
        }))
    }

    /// The part file of a payload that neither runs nor is kept, entered as a running download.
    pub(super) async fn claim(
        &self,
        info: Arc<InfoDict>,
        claimant: Claimant,
    ) -> Result<Result<Claim, Fetch>, DownloadError> {
        let info_hash = info.info_hash();
        let starting = self.starting(&info_hash);
        let _starting = starting.lock().await;
        if let Some(found) = self.find(&info_hash).await {
            return Ok(Err(found));
        }
        let (part, room) = self.open_part(info).await?;
        let part = Arc::new(part);
        let stop = self.stop.child_token();
        let download = Arc::new(Download::new(part.clone(), stop, claimant));
        self.lock().insert(info_hash, Arc::downgrade(&download));
        self.book.started(part);
        Ok(Ok(Claim { download, room }))
    }

    fn starting(&self, info_hash: &InfoHash) -> Arc<tokio::sync::Mutex<()>> {
        let mut starting = self.starting.lock().unwrap_or_else(|e| e.into_inner());
        starting.retain(|_, lock| lock.strong_count() > 0);
        let known = starting.get(info_hash).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lock = Arc::default();
            starting.insert(*info_hash, Arc::downgrade(&lock));
            lock
        })
    }

    /// A download leaves the list only when its payload is kept: looking there first would miss it.
    async fn find(&self, info_hash: &InfoHash) -> Option<Fetch> {
        if let Some(running) = self.join(info_hash).await {
            return Some(Fetch::Running(running));
        }
        let path = self.kept(info_hash)?;
        self.directory.touch(info_hash);
        Some(Fetch::Kept(path))
    }

    async fn open_part(&self, info: Arc<InfoDict>) -> Result<(PartFile, Room), DownloadError> {
        let (directory, book) = (self.directory.clone(), self.book.clone());
        let opened = tokio::task::spawn_blocking(move || {
            let bytes = info.length + PartFile::index_size(&info);
            let spare = |kept: &InfoHash| book.is_installed(kept);
            let room = directory.part_room(info.info_hash(), bytes, spare)?;
            let part = PartFile::open(directory.path(), info);
            let part = part.map_err(|source| DownloadError::Disk {
                path: directory.path().to_owned(),
                source,
            })?;
            Ok((part, room))
        });
        let opened = opened
            .await
            .map_err(|error| DownloadError::Engine(error.to_string()))?;
        opened.inspect_err(|error| match error {
            DownloadError::Disk { source, .. } => self.not_kept(source),
            DownloadError::Room(NoRoom::Disk { source, .. }) => self.not_kept(source),
            _ => {}
        })
    }

    /// The cache cannot be written: bodies flow all the same, but somebody should know.
    pub(super) fn not_kept(&self, error: &dyn Display) {
        let path = self.directory.path().display();
        self.counters.error(format!(
            "{path} cannot be written, so what comes is not kept: {error}"
        ));
    }

    /// The running download. One that everybody left is first awaited: two engines on one file would be one too many.
    async fn join(&self, info_hash: &InfoHash) -> Option<Arc<Download>> {
        loop {
            let ended = self.ended.notified();
            match self.lock().get(info_hash).map(Weak::upgrade) {
                None => return None,
                Some(Some(running)) => return Some(running),
                Some(None) => {}
            }
            ended.await;
        }
    }

    /// Drives one download to its end: all pieces there, or nobody waiting any more.
    async fn run(self: Arc<Self>, part: Arc<PartFile>, room: Room, stop: CancellationToken) {
        let info_hash = part.info_hash();
        let result = if part.is_complete() {
            Ok(())
        } else {
            self.engine.run(&part, &stop).await
        };
        self.engine.forget(&info_hash);
        if let Some(error) = part.failure() {
            self.not_kept(&error);
        } else if let Err(error) = result {
            tracing::warn!(%info_hash, %error, "a download failed");
            part.fail(&error);
        }
        self.release(part, room).await;
    }

    /// The end of a claim: what is whole is kept, a part stays for whoever goes on with it.
    pub(super) async fn release(&self, part: Arc<PartFile>, room: Room) {
        let info_hash = part.info_hash();
        if part.is_complete() {
            let to = self.directory.payload_path(&info_hash);
            let kept = tokio::task::spawn_blocking(move || {
                part.keep(&to).map(|()| room.kept_as(info_hash))
            });
            if let Ok(Err(error)) = kept.await {
                self.not_kept(&error);
            }
        }
        self.book.ended(&info_hash);
        self.lock().remove(&info_hash);
        self.ended.notify_waiters();
    }

    /// Resolves when some download has ended, if asked for before looking.
    pub(super) fn ended(&self) -> impl Future<Output = ()> {
        self.ended.notified()
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Weak<Download>>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }
}
