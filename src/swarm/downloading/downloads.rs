//! Downloads: librqbit sessions in, part files out. One download per info hash, whoever asks; dropped when nobody waits.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use librqbit::api::TorrentIdOrHash;
use librqbit::{
    AddTorrent, AddTorrentOptions, ConnectionOptions, ListenerOptions, PeerConnectionOptions,
    Session, SessionOptions,
};
use librqbit_core::hash_id::Id20;
use moka::future::Cache;
use thiserror::Error;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{InfoDicts, InfoDictsError};
use crate::runtime::Counters;
use crate::torrent::{InfoDict, InfoHash, Metainfo};

use super::companion::Companion;
use super::local_tracker::{LocalTracker, POLL};
use super::metadata::{self, MetadataError};
use super::reuse::Reusing;
use super::sources::Sources;
use super::storage::PartStorageFactory;
use super::wake_up::WakeUp;
use super::way_out::WayOut;
use super::witness::Witness;
use crate::swarm::payloads::PartFile;
use crate::swarm::payloads::{NoRoom, PayloadDirectory, Room};
use crate::swarm::protocol::PeerId;
use crate::swarm::seeding::OfferBook;
use crate::swarm::share::SharePolicy;

/// librqbit's permits for disk work. Each write holds one for a moment; the default of 8 starves 25 parallel NARs.
const DISK_PERMITS: usize = 64;
/// Torrents whose first check may run at once: it only reads what a part file holds.
const PARALLEL_CHECKS: usize = 32;
/// Requests in flight per peer. 16 KiB each: 2 MiB fill 100 Mbit/s at 160 ms.
const REQUEST_WINDOW: usize = 128;
/// A peer that has sent the info dict so long ago may be gone; Nix takes the NARs of most batches sooner.
const SHOWN_LATELY: Duration = Duration::from_secs(600);
/// Info dicts in memory between narinfo and NAR; most have a few hundred bytes.
const KNOWN_INFOS: u64 = 1000;
/// Peers that a download starts with; each costs a connection, and more follow through the tracker.
const MAX_FIRST_PEERS: usize = 80;
/// A neighbour answers in a round trip when it knows the info dict.
const NEIGHBOUR_HEAD_START: Duration = Duration::from_millis(300);
/// It may have to encode a large NAR to compute it.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked at who delivers.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PEER_SILENCE: Duration = Duration::from_secs(20);

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
    #[error("writing to {path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
    #[error(transparent)]
    InfoDicts(#[from] InfoDictsError),
    #[error(transparent)]
    Shared(Arc<DownloadError>),
    #[error("librqbit: {0}")]
    Engine(String),
}

/// What to download: the row's word on it, to hold what peers send against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub info_hash: InfoHash,
    pub length: Expected,
}

/// What is known of a length beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Exactly(u64),
    AtMost(u64),
}

impl Expected {
    fn allows(self, length: u64) -> bool {
        match self {
            Self::Exactly(expected) => length == expected,
            Self::AtMost(limit) => length <= limit,
        }
    }
}

/// What there is to expect of the swarm for one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// It is on this machine's disk.
    Here,
    /// A peer has shown lately that it has the payload, or says so.
    Shown,
    /// There are peers that answer, and have not said that they lack it.
    Reachable,
    Nobody,
}

/// What a running download has received, and with whom it shares the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes of blocks.
    pub received: u64,
    /// Other running downloads.
    pub others: usize,
    /// Those of them that have received blocks.
    pub others_flowing: usize,
}

/// Where a payload is.
pub enum Fetch {
    /// Whole, in this file.
    Kept(PathBuf),
    Running(Arc<Download>),
}

/// A running or finished download. Dropping the last handle of an unfinished one stops it; its part file stays.
pub struct Download {
    part: Arc<PartFile>,
    stop: CancellationToken,
}

impl Download {
    pub fn part(&self) -> &Arc<PartFile> {
        &self.part
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.stop.cancel();
    }
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
    session: Arc<Session>,
    tracker: Arc<LocalTracker>,
    sources: Arc<Sources>,
    pub(super) infos: Arc<InfoDicts>,
    /// Info dicts of a moment ago, and those being fetched.
    known: Cache<InfoHash, Arc<InfoDict>>,
    /// Payloads of which a peer has just sent the info dict.
    shown: Cache<InfoHash, ()>,
    pub(super) book: Arc<OfferBook>,
    pub(super) directory: PayloadDirectory,
    pub(super) reusing: Reusing,
    counters: Arc<Counters>,
    policy: Arc<SharePolicy>,
    peer_id: [u8; 20],
    port: u16,
    running: Mutex<HashMap<InfoHash, Weak<Download>>>,
    /// Whether a payload runs or is kept is looked up and changed in one step.
    starting: tokio::sync::Mutex<()>,
    ended: Notify,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
}

/// A part file that nobody else writes, and the room that it takes.
pub(super) struct Claim {
    pub download: Arc<Download>,
    pub room: Room,
}

impl Downloads {
    pub async fn start(parts: DownloadsParts) -> Result<Arc<Self>, DownloadError> {
        let DownloadsParts {
            sources,
            infos,
            book,
            directory,
            counters,
            policy,
            peer_id,
            port,
            tasks,
            stop,
        } = parts;
        let disk = |source| DownloadError::Disk {
            path: directory.path().to_owned(),
            source,
        };
        let tracker = LocalTracker::start(sources.clone(), stop.clone())
            .await
            .map_err(disk)?;
        // Holders behind NAT connect to our port, and from there to this one.
        let listen = ListenerOptions {
            listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            ipv4_only: true,
            ..ListenerOptions::default()
        };
        let way_out = WayOut::start(&tasks, &stop).await.map_err(disk)?;
        let connect = ConnectionOptions {
            proxy_url: Some(way_out.url()),
            ..ConnectionOptions::default()
        };
        let options = SessionOptions {
            dht: None,
            listen: Some(listen),
            connect: Some(connect),
            disable_upload: true,
            disable_local_service_discovery: true,
            peer_id: Some(Id20::new(peer_id)),
            concurrent_init_limit: Some(PARALLEL_CHECKS),
            runtime_worker_threads: Some(DISK_PERMITS),
            cancellation_token: Some(stop.clone()),
            ..SessionOptions::default()
        };
        let session = Session::new_with_opts(directory.path().to_owned(), options).await;
        let session = session.map_err(|error| DownloadError::Engine(format!("{error:#}")))?;
        if let Some(address) = session.listen_addr() {
            sources.gossip().dial_backs.set_engine(address.port());
        }
        Ok(Arc::new(Self {
            session,
            tracker,
            sources,
            infos,
            known: Cache::new(KNOWN_INFOS),
            shown: Cache::builder()
                .max_capacity(KNOWN_INFOS)
                .time_to_live(SHOWN_LATELY)
                .build(),
            book,
            directory,
            reusing: Reusing::default(),
            counters,
            policy,
            peer_id,
            port,
            running: Mutex::default(),
            starting: tokio::sync::Mutex::default(),
            ended: Notify::new(),
            tasks,
            stop,
        }))
    }

    /// The payload file, when it was downloaded before and is still kept.
    pub fn kept(&self, info_hash: &InfoHash) -> Option<PathBuf> {
        self.directory.find(info_hash)
    }

    /// Forgets a kept payload that turned out to be wrong.
    pub fn discard(&self, info_hash: &InfoHash) {
        if let Err(error) = self.directory.remove(info_hash) {
            tracing::debug!(%info_hash, %error, "a payload could not be removed");
        }
    }

    pub fn running(&self) -> Vec<Arc<Download>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    pub fn prospect(&self, info_hash: &InfoHash) -> Prospect {
        let whole = |download: Arc<Download>| download.part.is_complete();
        let running = self.lock().get(info_hash).and_then(Weak::upgrade);
        if running.is_some_and(whole) || self.kept(info_hash).is_some() {
            Prospect::Here
        } else if self.shown.contains_key(info_hash) || self.sources.has_holders(info_hash) {
            Prospect::Shown
        } else if self.sources.may_have(info_hash) {
            Prospect::Reachable
        } else {
            Prospect::Nobody
        }
    }

    /// How the running download of this payload gets on.
    pub fn traffic(&self, info_hash: &InfoHash) -> Option<Traffic> {
        let running = self.lock();
        let download = running.get(info_hash).and_then(Weak::upgrade)?;
        let others = running.iter().filter(|(other, _)| *other != info_hash);
        let others: Vec<u64> = others
            .filter_map(|(_, other)| Some(other.upgrade()?.part.received()))
            .collect();
        Some(Traffic {
            received: download.part.received(),
            others: others.len(),
            others_flowing: others.iter().filter(|received| **received > 0).count(),
        })
    }

    /// Whether there is anybody to ask.
    pub fn has_peers(&self) -> bool {
        !self.sources.peers().is_empty() || self.sources.gossip().has_neighbours()
    }

    /// Asks the neighbours who has this payload: the answer is there when it is needed.
    pub fn seek(&self, info_hash: &InfoHash) {
        self.sources.gossip().seek(*info_hash);
    }

    pub fn cache_size(&self) -> u64 {
        self.directory.limit()
    }

    /// The info dict: kept, or fetched from peers and kept. Whoever asks at the same time shares one fetch.
    pub async fn info(&self, wanted: Wanted) -> Result<Arc<InfoDict>, DownloadError> {
        // Even when the info dict is here: the download needs holders next.
        self.seek(&wanted.info_hash);
        let found = self
            .known
            .try_get_with(wanted.info_hash, self.find_info(wanted))
            .await;
        found.map_err(DownloadError::Shared)
    }

    async fn find_info(&self, wanted: Wanted) -> Result<Arc<InfoDict>, DownloadError> {
        if let Some(info) = self.infos.get(&wanted.info_hash)? {
            return Ok(Arc::new(info));
        }
        if !self.has_peers() {
            return Err(DownloadError::NoPeers);
        }
        let info = self.fetch_info(wanted.info_hash).await?;
        self.shown.insert(wanted.info_hash, ()).await;
        if !wanted.length.allows(info.length) {
            return Err(DownloadError::Length {
                expected: wanted.length,
                found: info.length,
            });
        }
        if let Err(error) = self.infos.put(&info) {
            // It is only sought again after a restart.
            tracing::warn!(%error, "an info dict could not be kept");
        }
        Ok(info)
    }

    /// A neighbour that has the payload answers in one round trip; the others are asked when it does not.
    async fn fetch_info(&self, info_hash: InfoHash) -> Result<Arc<InfoDict>, MetadataError> {
        let mut from_neighbour = pin!(self.sources.gossip().info(info_hash));
        let silent = match timeout(NEIGHBOUR_HEAD_START, &mut from_neighbour).await {
            Ok(Some(info)) => return Ok(info),
            Ok(None) => false,
            Err(_) => true,
        };
        let ask = metadata::fetch(&self.sources, info_hash, self.peer_id);
        if !silent {
            return ask.await.map(Arc::new);
        }
        let mut asked = pin!(ask);
        tokio::select! {
            Some(info) = &mut from_neighbour => Ok(info),
            asked = &mut asked => match asked {
                Ok(info) => Ok(Arc::new(info)),
                // It may be computing the dict, and be the only one that can.
                Err(error) => match timeout(NEIGHBOUR_PATIENCE, from_neighbour).await {
                    Ok(Some(info)) => Ok(info),
                    _ => Err(error),
                },
            },
        }
    }

    /// The payload that is kept, the download that runs, or a new one: then as soon as there is room for it.
    pub async fn fetch(self: &Arc<Self>, wanted: Wanted) -> Result<Fetch, DownloadError> {
        if let Some(found) = self.find(&wanted.info_hash).await {
            return Ok(found);
        }
        let info = self.info(wanted).await?;
        loop {
            let freed = self.directory.freed();
            match self.claim(info.clone()).await {
                Ok(Ok(Claim { download, room })) => {
                    let part = download.part.clone();
                    let stop = download.stop.clone();
                    self.tasks.spawn(self.clone().run(part, room, stop));
                    return Ok(Fetch::Running(download));
                }
                Ok(Err(found)) => return Ok(found),
                Err(DownloadError::Room(NoRoom::Busy)) => freed.await,
                Err(error) => return Err(error),
            }
        }
    }

    /// The part file of a payload that neither runs nor is kept, entered as a running download.
    pub(super) async fn claim(
        &self,
        info: Arc<InfoDict>,
    ) -> Result<Result<Claim, Fetch>, DownloadError> {
        let info_hash = info.info_hash();
        let _starting = self.starting.lock().await;
        if let Some(found) = self.find(&info_hash).await {
            return Ok(Err(found));
        }
        let (part, room) = self.open_part(info).await?;
        let part = Arc::new(part);
        let download = Arc::new(Download {
            part: part.clone(),
            stop: self.stop.child_token(),
        });
        self.lock().insert(info_hash, Arc::downgrade(&download));
        self.book.started(part);
        Ok(Ok(Claim { download, room }))
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
        opened
            .await
            .map_err(|error| DownloadError::Engine(error.to_string()))?
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
            self.run_engine(&part, &stop).await
        };
        self.tracker.forget(&info_hash);
        self.sources.gossip().dial_backs.forget(&info_hash);
        if let Err(error) = result {
            tracing::warn!(%info_hash, %error, "a download failed");
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
                tracing::warn!(%info_hash, %error, "a finished download could not be kept");
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

    async fn run_engine(
        &self,
        part: &Arc<PartFile>,
        stop: &CancellationToken,
    ) -> Result<(), DownloadError> {
        let info_hash = part.info_hash();
        let mut peers = self.sources.of(&info_hash);
        peers.truncate(MAX_FIRST_PEERS);
        self.sources.gossip().ask_dial_backs(&info_hash);
        self.tracker.register(info_hash, &peers);
        let options = AddTorrentOptions {
            overwrite: true,
            initial_peers: Some(peers.clone()),
            trackers: Some(vec![self.tracker.url()]),
            force_tracker_interval: Some(POLL),
            peer_opts: Some(PeerConnectionOptions {
                connect_timeout: Some(CONNECT_TIMEOUT),
                read_write_timeout: Some(PEER_SILENCE),
                max_request_window: Some(REQUEST_WINDOW),
                ..PeerConnectionOptions::default()
            }),
            storage_factory: Some(PartStorageFactory::boxed(part.clone())),
            ..AddTorrentOptions::default()
        };
        let engine = |error: anyhow::Error| DownloadError::Engine(format!("{error:#}"));
        let mut progress = part.progress();
        let metainfo = Metainfo {
            info: InfoDict::clone(part.info()),
            trackers: vec![],
        }
        .encode();
        let added = self
            .session
            .add_torrent(AddTorrent::from_bytes(metainfo), Some(options))
            .await
            .map_err(engine)?;
        let handle = added.into_handle();
        let _beside = self.beside(part, peers);
        let mut witness = Witness::new(info_hash, self.sources.clone());
        let mut look = interval(LOOK_INTERVAL);
        loop {
            if part.is_complete() || part.failure().is_some() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = progress.changed() => if changed.is_err() { break },
                _ = look.tick() => {
                    handle.iter().for_each(|handle| witness.look(handle));
                    if part.bytes_done() == 0 {
                        self.sources.gossip().ask_dial_backs(&info_hash);
                    }
                }
            }
        }
        handle.iter().for_each(|handle| witness.look(handle));
        if let Some(live) = handle.and_then(|torrent| torrent.live()) {
            // Blocks that came twice, of pieces that did not have their hash, or of pieces that were not finished.
            let stats = live.stats_snapshot();
            let used = stats.downloaded_and_checked_bytes;
            self.counters
                .wasted(stats.fetched_bytes.saturating_sub(used));
        }
        let id = TorrentIdOrHash::Hash(Id20::new(*info_hash.as_bytes()));
        self.session.delete(id, false).await.map_err(engine)?;
        match part.failure() {
            Some(reason) => Err(DownloadError::Engine(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// What runs beside librqbit; ends when dropped.
    fn beside(&self, part: &Arc<PartFile>, peers: Vec<SocketAddr>) -> JoinSet<()> {
        let offered = Arc::new(Notify::new());
        let mut beside = JoinSet::new();
        if let Some(listener) = self.session.listen_addr() {
            let wake_up = WakeUp {
                listener,
                part: part.clone(),
                offered: offered.clone(),
            };
            beside.spawn(wake_up.run());
        }
        let companion = Companion {
            part: part.clone(),
            policy: self.policy.clone(),
            tracker: self.tracker.clone(),
            peer_id: PeerId::from_bytes(self.peer_id),
            port: self.port,
            offered,
        };
        beside.spawn(companion.run(peers));
        beside
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Weak<Download>>> {
        self.running.lock().unwrap_or_else(|e| e.into_inner())
    }
}
