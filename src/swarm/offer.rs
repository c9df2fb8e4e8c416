//! One torrent that this machine can serve, whatever its bytes come from, and the book that finds it by info hash.
//!
//! A row is served only while a verified manifest lists it. Its pieces come, in this order, from a running download,
//! from a payload file that is kept, or from the NAR that is installed: then its frames are made again. Whatever the
//! source, a piece leaves only with its SHA-1 checked.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moka::future::Cache;
use sha1::{Digest, Sha1};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};

use crate::catalog::{Entry, InfoDicts, Offers, PlainFile};
use crate::payload::{
    FrameTable, NarSource, RecreateError, describe, describe_payload, recreate_frame,
};
use crate::store::{NarReader, scan};
use crate::torrent::{Bitfield, InfoDict, InfoHash};

use super::part_file::{PartFile, read_piece};
use super::payload_directory::PayloadDirectory;

/// Compressed frames kept for the pieces that are asked next; a frame is 1.5 MB or so.
const FRAME_CACHE_BYTES: u64 = 48 << 20;
/// Verified pieces kept for other peers that ask the same.
const PIECE_CACHE_BYTES: u64 = 24 << 20;
/// Open NARs: a layout and one file descriptor each.
const OPEN_NARS: u64 = 32;
const NAR_IDLE: Duration = Duration::from_secs(20);
/// Info dicts in memory; most are a few hundred bytes, the largest 80 kB.
const INFO_CACHE_BYTES: u64 = 8 << 20;

#[derive(Debug, Clone, Error)]
pub enum OfferError {
    #[error("reading {path}: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error(
        "{path} does not hold what the manifest says: withdrawn until the agent restarts ({reason})"
    )]
    Withdrawn { path: PathBuf, reason: String },
    #[error("the work was abandoned because the program is stopping")]
    Stopping,
}

/// Where the bytes of an offer are.
#[derive(Clone)]
enum Content {
    Download(Arc<PartFile>),
    File(PathBuf),
    Installed { path: PathBuf },
}

/// A torrent to serve.
#[derive(Clone)]
pub struct Offer {
    workshop: Arc<Workshop>,
    info_hash: InfoHash,
    /// NarSize for a payload, the length for any other file.
    size: u64,
    length: u64,
    piece_length: u32,
    content: Content,
}

/// How much is offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfferSummary {
    pub paths: u64,
    pub bytes: u64,
    pub withdrawn: u64,
}

/// Finds offers by info hash; the only place that knows all their kinds.
pub struct OfferBook {
    workshop: Arc<Workshop>,
    payloads: PayloadDirectory,
    /// Payload files that somebody put there, named after the NarHash (a seedbox's `location`).
    hold: Option<PathBuf>,
    running: RwLock<HashMap<InfoHash, Arc<PartFile>>>,
    files: RwLock<HashMap<InfoHash, PlainFile>>,
}

impl OfferBook {
    pub fn new(
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        payloads: PayloadDirectory,
        hold: Option<PathBuf>,
    ) -> Self {
        let workshop = Arc::new(Workshop::new(offers, infos));
        Self {
            workshop,
            payloads,
            hold,
            running: RwLock::default(),
            files: RwLock::default(),
        }
    }

    /// What this machine can serve under this info hash, if anything.
    pub fn find(&self, info_hash: &InfoHash) -> Option<Offer> {
        if let Some(file) = self
            .files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(info_hash)
            .cloned()
        {
            let (length, piece_length) = (file.info.length, file.info.piece_length);
            self.workshop.remember(*info_hash, file.info);
            return Some(self.offer(
                *info_hash,
                length,
                length,
                piece_length,
                Content::File(file.path),
            ));
        }
        let entry = self.workshop.offers.catalog().find_payload(info_hash)?;
        let content = self.content(&entry)?;
        Some(self.offer(
            *info_hash,
            entry.nar_size,
            entry.payload_length,
            entry.piece_length(),
            content,
        ))
    }

    fn content(&self, entry: &Entry) -> Option<Content> {
        let running = self
            .running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&entry.info_hash)
            .cloned();
        if let Some(part) = running {
            return Some(Content::Download(part));
        }
        if let Some(path) = self.payloads.find(&entry.info_hash) {
            return Some(Content::File(path));
        }
        let held = self
            .hold
            .as_ref()
            .map(|directory| directory.join(entry.payload_name()));
        if let Some(path) = held.filter(|path| {
            path.metadata()
                .is_ok_and(|m| m.len() == entry.payload_length)
        }) {
            return (!self.workshop.offers.is_withdrawn(&entry.info_hash))
                .then_some(Content::File(path));
        }
        let entry = self.workshop.offers.installed_payload(&entry.info_hash)?;
        let path = self.workshop.offers.store()?.real_path(&entry.store_path);
        Some(Content::Installed { path })
    }

    fn offer(
        &self,
        info_hash: InfoHash,
        size: u64,
        length: u64,
        piece_length: u32,
        content: Content,
    ) -> Offer {
        Offer {
            workshop: self.workshop.clone(),
            info_hash,
            size,
            length,
            piece_length,
            content,
        }
    }

    /// Bytes of the payload files that lie in `hold`.
    pub fn held_bytes(&self) -> u64 {
        self.held().values().sum()
    }

    /// Payload files in `hold`, by name, with their sizes.
    fn held(&self) -> HashMap<String, u64> {
        let files = self
            .hold
            .iter()
            .filter_map(|directory| directory.read_dir().ok());
        let payloads = files.flatten().flatten().filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let bytes = file.metadata().ok()?.len();
            name.ends_with(".nar.zst").then_some((name, bytes))
        });
        payloads.collect()
    }

    /// What is offered now, whatever its bytes come from: a walk over the catalog, for `status`.
    pub fn summary(&self) -> OfferSummary {
        let offers = &self.workshop.offers;
        let (kept, held) = (self.payloads.kept(), self.held());
        let mut seen = HashSet::new();
        let mut summary = OfferSummary {
            withdrawn: offers.withdrawn(),
            ..OfferSummary::default()
        };
        for (row, ours) in offers
            .catalog()
            .releases()
            .iter()
            .flat_map(|release| release.rows())
        {
            let info_hash = row.info_hash();
            let name = || format!("{}.nar.zst", row.nar_hash().base32());
            let offered = !offers.is_withdrawn(&info_hash)
                && ((ours && offers.is_installed(&row.hash_part(), &row.nar_hash()))
                    || kept.contains(&info_hash)
                    || (!held.is_empty() && held.get(&name()) == Some(&row.payload_length())));
            if offered && seen.insert(info_hash) {
                summary.paths += 1;
                summary.bytes += row.payload_length();
            }
        }
        summary
    }

    /// A download begins: its pieces are offered as they come.
    pub fn started(&self, part: Arc<PartFile>) {
        self.running
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.info_hash(), part);
    }

    pub fn ended(&self, info_hash: &InfoHash) {
        self.running
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(info_hash);
    }

    /// Serves these files beside the catalog's payloads.
    pub fn set_files(&self, files: Vec<PlainFile>) {
        let files = files
            .into_iter()
            .map(|file| (file.info.info_hash(), file))
            .collect();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }
}

impl Offer {
    pub fn piece_count(&self) -> u32 {
        self.length.div_ceil(u64::from(self.piece_length)) as u32
    }

    pub fn have(&self) -> Bitfield {
        match &self.content {
            Content::Download(part) => part.have(),
            Content::File(_) | Content::Installed { .. } => Bitfield::full(self.piece_count()),
        }
    }

    /// Changes when more pieces are there; `None` when all are.
    pub fn progress(&self) -> Option<watch::Receiver<u32>> {
        match &self.content {
            Content::Download(part) => Some(part.progress()),
            Content::File(_) | Content::Installed { .. } => None,
        }
    }

    /// The info dict, if it need not be computed.
    pub async fn known_info(&self) -> Option<Arc<InfoDict>> {
        match &self.content {
            Content::Download(part) => Some(part.info().clone()),
            Content::File(_) | Content::Installed { .. } => {
                self.workshop.known_info(self.info_hash).await
            }
        }
    }

    pub async fn info(&self) -> Result<Arc<InfoDict>, OfferError> {
        match self.known_info().await {
            Some(info) => Ok(info),
            None => self.workshop.compute_info(self).await,
        }
    }

    /// A whole piece, verified.
    pub async fn piece(&self, index: u32) -> Result<Bytes, OfferError> {
        let key = (self.info_hash, index);
        let made = self
            .workshop
            .pieces
            .try_get_with(key, self.make_piece(index))
            .await;
        made.map_err(|error| (*error).clone())
    }

    async fn make_piece(&self, index: u32) -> Result<Bytes, OfferError> {
        match &self.content {
            Content::Download(part) => {
                let (part, path) = (part.clone(), self.path().to_owned());
                blocking(move || part.piece(index))
                    .await?
                    .map_err(|e| read_error(&path, &e))
            }
            Content::File(path) => {
                let (info, path) = (self.info().await?, path.clone());
                let read = blocking({
                    let path = path.clone();
                    move || read_piece(&File::open(path)?, &info, index)
                });
                match read.await? {
                    Ok(piece) => Ok(piece.into()),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        Err(self.withdraw(&error.to_string()))
                    }
                    Err(error) => Err(read_error(&path, &error)),
                }
            }
            Content::Installed { .. } => self.workshop.recreate_piece(self, index).await,
        }
    }

    fn path(&self) -> &Path {
        match &self.content {
            Content::Download(_) => Path::new("a running download"),
            Content::File(path) | Content::Installed { path } => path,
        }
    }

    /// The content is not what the row says. A path that is gone altogether was collected: no lie, and it may return.
    fn withdraw(&self, reason: &str) -> OfferError {
        let path = self.path().to_owned();
        let reason = reason.to_owned();
        if path.symlink_metadata().is_err() {
            return OfferError::Read { path, reason };
        }
        self.workshop.offers.withdraw(self.info_hash);
        OfferError::Withdrawn { path, reason }
    }
}

/// The shared means to make pieces: caches, and bounds on the work.
struct Workshop {
    offers: Arc<Offers>,
    infos: Arc<InfoDicts>,
    info_cache: Cache<InfoHash, Arc<InfoDict>>,
    frames: Cache<(InfoHash, usize), Bytes>,
    pieces: Cache<(InfoHash, u32), Bytes>,
    nars: Cache<PathBuf, Arc<Mutex<NarReader>>>,
    /// Encoding is the one thing here that takes a core.
    encoding: Arc<Semaphore>,
}

impl Workshop {
    fn new(offers: Arc<Offers>, infos: Arc<InfoDicts>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            offers,
            infos,
            info_cache: by_weight(INFO_CACHE_BYTES, |info: &Arc<InfoDict>| {
                200 + info.piece_count() * 20
            }),
            frames: by_weight(FRAME_CACHE_BYTES, |frame: &Bytes| frame.len() as u32),
            pieces: by_weight(PIECE_CACHE_BYTES, |piece: &Bytes| piece.len() as u32),
            nars: Cache::builder()
                .max_capacity(OPEN_NARS)
                .time_to_idle(NAR_IDLE)
                .build(),
            encoding: Arc::new(Semaphore::new(cores)),
        }
    }

    fn remember(&self, info_hash: InfoHash, info: InfoDict) {
        if let Err(error) = self.infos.put(&info) {
            tracing::warn!(%error, %info_hash, "an info dict could not be kept");
        }
    }

    async fn known_info(&self, info_hash: InfoHash) -> Option<Arc<InfoDict>> {
        if let Some(info) = self.info_cache.get(&info_hash).await {
            return Some(info);
        }
        let infos = self.infos.clone();
        let found = blocking(move || infos.get(&info_hash)).await.ok()?;
        match found {
            Ok(info) => {
                let info = Arc::new(info?);
                self.info_cache.insert(info_hash, info.clone()).await;
                Some(info)
            }
            Err(error) => {
                tracing::warn!(%error, "an info dict could not be read and is computed again");
                None
            }
        }
    }

    /// Encodes or reads the whole payload once to learn its info dict, and keeps it.
    async fn compute_info(&self, offer: &Offer) -> Result<Arc<InfoDict>, OfferError> {
        let making = async {
            let permit = self
                .encoding
                .clone()
                .acquire_owned()
                .await
                .map_err(|_| OfferError::Stopping)?;
            let (content, size) = (offer.content.clone(), offer.size);
            let computed = blocking(move || {
                let _permit = permit;
                match content {
                    Content::Installed { path } => {
                        let mut nar = NarReader::open(scan(&path).map_err(|e| e.to_string())?);
                        describe(&mut nar, size, |_| Ok(()))
                            .map(|described| described.info)
                            .map_err(|e| e.to_string())
                    }
                    Content::File(path) => {
                        let name = path
                            .file_name()
                            .unwrap_or_default()
                            .to_string_lossy()
                            .into_owned();
                        let file = File::open(&path).map_err(|e| e.to_string())?;
                        describe_payload(file, name, size).map_err(|e| e.to_string())
                    }
                    Content::Download(part) => Ok(InfoDict::clone(part.info())),
                }
            });
            let info = computed.await?.map_err(|reason| OfferError::Read {
                path: offer.path().to_owned(),
                reason,
            })?;
            if info.info_hash() != offer.info_hash {
                return Err(offer.withdraw("its payload has another info hash"));
            }
            self.remember(offer.info_hash, info.clone());
            Ok(Arc::new(info))
        };
        self.info_cache
            .try_get_with(offer.info_hash, making)
            .await
            .map_err(|error| (*error).clone())
    }

    /// Cuts a piece out of the frames that it lies in.
    async fn recreate_piece(&self, offer: &Offer, index: u32) -> Result<Bytes, OfferError> {
        let info = offer.info().await?;
        let frames = info.frames.as_deref().unwrap_or_default();
        let table = FrameTable::new(offer.size, offer.length, frames)
            .map_err(|e| offer.withdraw(&e.to_string()))?;
        let table = Arc::new(table);
        let range = info.piece_range(index);
        let mut piece = BytesMut::with_capacity((range.end - range.start) as usize);
        for i in table.covering(&range) {
            let frame = self
                .frames
                .try_get_with(
                    (offer.info_hash, i),
                    self.make_frame(offer, table.clone(), i),
                )
                .await;
            let frame = frame.map_err(|error| (*error).clone())?;
            piece.extend_from_slice(&frame[within(&table.compressed(i), &range)]);
        }
        if info.piece_hash(index) != Some(&Sha1::digest(&piece).into()) {
            return Err(offer.withdraw(&format!("piece {index} came out with another hash")));
        }
        Ok(piece.freeze())
    }

    async fn make_frame(
        &self,
        offer: &Offer,
        table: Arc<FrameTable>,
        i: usize,
    ) -> Result<Bytes, OfferError> {
        let permit = self
            .encoding
            .clone()
            .acquire_owned()
            .await
            .map_err(|_| OfferError::Stopping)?;
        let nar = self.open_nar(offer).await?;
        let made = blocking(move || {
            let _permit = permit;
            let mut nar = nar.lock().unwrap_or_else(PoisonError::into_inner);
            recreate_frame(&mut *nar, &table, i)
        });
        match made.await? {
            Ok(frame) => Ok(frame.into()),
            // A file that vanished or changed its length: the store no longer has what the row says.
            Err(error @ (RecreateError::Read(_) | RecreateError::Changed { .. })) => {
                Err(offer.withdraw(&error.to_string()))
            }
            Err(error) => Err(OfferError::Read {
                path: offer.path().to_owned(),
                reason: error.to_string(),
            }),
        }
    }

    async fn open_nar(&self, offer: &Offer) -> Result<Arc<Mutex<NarReader>>, OfferError> {
        let path = offer.path().to_owned();
        let open = async {
            let path = path.clone();
            let opened = blocking(move || scan(&path).map(NarReader::open)).await?;
            opened
                .map(|nar| Arc::new(Mutex::new(nar)))
                .map_err(|error| offer.withdraw(&error.to_string()))
        };
        self.nars
            .try_get_with(path.clone(), open)
            .await
            .map_err(|error| (*error).clone())
    }
}

/// A cache that holds values up to `capacity` bytes in all.
fn by_weight<K, V>(capacity: u64, weigh: fn(&V) -> u32) -> Cache<K, V>
where
    K: Hash + Eq + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    Cache::builder()
        .max_capacity(capacity)
        .weigher(move |_, value| weigh(value))
        .build()
}

impl NarSource for NarReader {
    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self
                .read_at(offset + done as u64, &mut buffer[done..])
                .map_err(io::Error::other)?
            {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => done += n,
            }
        }
        Ok(())
    }
}

/// The part of `container` that `range` covers, counted from its start.
fn within(container: &Range<u64>, range: &Range<u64>) -> Range<usize> {
    let start = range.start.max(container.start) - container.start;
    let end = range.end.min(container.end) - container.start;
    start as usize..end as usize
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OfferError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| OfferError::Stopping)
}

fn read_error(path: &Path, error: &io::Error) -> OfferError {
    OfferError::Read {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
