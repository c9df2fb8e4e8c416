//! The means to make the pieces of all offers: caches, and bounds on the work.

use std::fs::File;
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moka::future::Cache;
use sha1::{Digest, Sha1};
use tokio::sync::Notify;

use crate::catalog::{InfoDicts, Offers, PayloadCopy};
use crate::nix::HashPart;
use crate::payload::{FrameMaker, FrameTable, RecreateError, describe, describe_payload};
use crate::store::{NarReader, scan};
use crate::swarm::payloads::PayloadDirectory;
use crate::torrent::{InfoDict, InfoHash};

use super::copy_error::CopyError;
use super::encoding::{Encoding, Recreation};
use super::offer::{Content, Offer, OfferError};
use super::open_nar::OpenNar;

/// Compressed frames kept for the pieces that are asked next; a frame is 1.5 MB or so.
const FRAME_CACHE_BYTES: u64 = 48 << 20;
/// Verified pieces kept for other peers that ask the same.
const PIECE_CACHE_BYTES: u64 = 24 << 20;
/// What an entry takes beside its bytes: most NARs are small.
const ENTRY_BYTES: u32 = 500;
/// Both are given back when nobody has asked for so long.
const BYTES_IDLE: Duration = Duration::from_secs(180);
/// Open NARs: a layout and one file descriptor each.
const OPEN_NARS: u64 = 32;
/// A file that is open takes its room on the disk, whatever Nix collects.
const NAR_IDLE: Duration = Duration::from_secs(20);
/// Info dicts in memory; most are a few hundred bytes, the largest 80 kB.
const INFO_CACHE_BYTES: u64 = 8 << 20;

/// The shared means to make pieces: caches, and bounds on the work.
pub struct Workshop {
    offers: Arc<Offers>,
    infos: Arc<InfoDicts>,
    payloads: PayloadDirectory,
    info_cache: Cache<InfoHash, Arc<InfoDict>>,
    frames: Cache<(InfoHash, usize), Bytes>,
    pieces: Cache<(InfoHash, u32), Bytes>,
    nars: Cache<HashPart, OpenNar>,
    /// There may be something in them to let go of.
    used: Notify,
    /// Encoding is the one thing here that takes a core.
    encoding: Encoding,
    /// Idle ones; at most as many as may encode.
    makers: Arc<Mutex<Vec<FrameMaker>>>,
}

impl Workshop {
    pub fn new(
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        payloads: PayloadDirectory,
        recreation: Recreation,
    ) -> io::Result<Self> {
        Ok(Self {
            offers,
            infos,
            payloads,
            info_cache: Cache::builder()
                .max_capacity(INFO_CACHE_BYTES)
                .weigher(|_, info: &Arc<InfoDict>| 200 + info.piece_count() * 20)
                .build(),
            frames: of_bytes(FRAME_CACHE_BYTES),
            pieces: of_bytes(PIECE_CACHE_BYTES),
            nars: Cache::builder()
                .max_capacity(OPEN_NARS)
                .time_to_idle(NAR_IDLE)
                .build(),
            used: Notify::new(),
            encoding: Encoding::new(recreation)?,
            makers: Arc::default(),
        })
    }

    /// Lets go of what was not used for a while, and of files that Nix wants gone. Never returns; while there is nothing to let
    /// go of it does not wake either.
    pub async fn tidy(&self) {
        let mut changes = self.offers.changes();
        loop {
            self.used.notified().await;
            while !self.let_go().await {
                tokio::select! {
                    () = tokio::time::sleep(NAR_IDLE) => {}
                    _ = changes.changed(), if self.nars.entry_count() > 0 => {}
                }
            }
        }
    }

    /// Returns whether there was nothing left already.
    async fn let_go(&self) -> bool {
        let counts = [
            self.frames.entry_count(),
            self.pieces.entry_count(),
            self.nars.entry_count(),
        ];
        let nars = self.nars.iter();
        let removed: Vec<_> = nars.filter(|(path, _)| !self.offers.has(path)).collect();
        for (path, _) in &removed {
            self.nars.invalidate(path.as_ref()).await;
        }
        // moka takes out what is idle when it is told to, and drops it the next time.
        for _ in 0..2 {
            self.frames.run_pending_tasks().await;
            self.pieces.run_pending_tasks().await;
            self.nars.run_pending_tasks().await;
        }
        if !removed.is_empty() {
            // To close the last descriptor of a file that was removed may take as long as removing it.
            let _ = blocking(move || drop(removed)).await;
        }
        if self.frames.entry_count() == 0 {
            self.makers().clear();
        }
        counts == [0; 3]
    }

    fn makers(&self) -> MutexGuard<'_, Vec<FrameMaker>> {
        self.makers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on disk is not what the row says: not offered any more.
    pub async fn withdraw(&self, copy: PayloadCopy) -> Result<(), OfferError> {
        if let PayloadCopy::Kept(info_hash) = copy {
            // The cache is better without it: then it can be fetched anew.
            let payloads = self.payloads.clone();
            match blocking(move || payloads.remove(&info_hash)).await? {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {}
                _ => {
                    self.offers.changed();
                    return Ok(());
                }
            }
        }
        self.offers.withdraw(copy);
        Ok(())
    }

    /// Whether Nix says, now, that it has this path. It says so no more before it removes the first file, and `Offers` hears
    /// of that a little later.
    pub async fn is_valid(&self, hash_part: HashPart) -> Result<bool, OfferError> {
        let Some(store) = self.offers.store().cloned() else {
            return Ok(false);
        };
        let found = blocking(move || store.path_info(&hash_part)).await?;
        // A database that cannot be read excuses nothing.
        Ok(!matches!(found, Ok(None)))
    }

    /// Whether the info dict is kept. One that cannot be looked up is not worth computing now.
    pub fn is_described(&self, info_hash: &InfoHash) -> bool {
        self.infos.has(info_hash).unwrap_or(true)
    }

    pub async fn known_info(&self, info_hash: InfoHash) -> Option<Arc<InfoDict>> {
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
    pub async fn compute_info(&self, offer: &Offer) -> Result<Arc<InfoDict>, OfferError> {
        let making = async {
            let _used = self.used();
            let (content, size) = (offer.content.clone(), offer.size);
            let computed = self.encoding.run(move || describe_content(content, size));
            let (info, first) = match computed.await? {
                Ok(computed) => computed,
                Err(error) => return Err(offer.failed(error).await),
            };
            if info.info_hash() != offer.info_hash {
                return Err(offer.altered("its payload has another info hash").await);
            }
            self.remember(info.clone()).await?;
            // The first frame is asked for next; of a small NAR it is all there is.
            if let Some(first) = first {
                self.frames.insert((offer.info_hash, 0), first).await;
            }
            Ok(Arc::new(info))
        };
        self.info_cache
            .try_get_with(offer.info_hash, making)
            .await
            .map_err(|error| (*error).clone())
    }

    async fn remember(&self, info: InfoDict) -> Result<(), OfferError> {
        let infos = self.infos.clone();
        if let Err(error) = blocking(move || infos.put(&info)).await? {
            tracing::warn!(%error, "an info dict could not be kept");
        }
        Ok(())
    }

    /// A whole piece, verified by whoever makes it.
    pub async fn piece(
        &self,
        info_hash: InfoHash,
        index: u32,
        make: impl Future<Output = Result<Bytes, OfferError>>,
    ) -> Result<Bytes, OfferError> {
        let _used = self.used();
        let made = self.pieces.try_get_with((info_hash, index), make).await;
        made.map_err(|error| (*error).clone())
    }

    /// Cuts a piece out of the frames that it lies in.
    pub async fn recreate_piece(
        &self,
        offer: &Offer,
        hash_part: HashPart,
        index: u32,
    ) -> Result<Bytes, OfferError> {
        let copy = PayloadCopy::Installed(offer.info_hash, hash_part);
        // An upload that goes on would keep files from Nix that it has removed.
        if !self.offers.has(&hash_part) || self.offers.is_withdrawn(&copy) {
            return Err(OfferError::Gone {
                path: offer.path().to_owned(),
            });
        }
        let info = offer.info().await?;
        let frames = info.frames.as_deref().unwrap_or_default();
        let table = match FrameTable::new(offer.size, offer.length, frames) {
            Ok(table) => Arc::new(table),
            Err(error) => return Err(offer.altered(&error.to_string()).await),
        };
        for is_again in [false, true] {
            if is_again {
                // Nix may have installed it anew since.
                self.nars.invalidate(&hash_part).await;
                for i in 0..table.len() {
                    self.frames.invalidate(&(offer.info_hash, i)).await;
                }
            }
            let range = info.piece_range(index);
            let piece = self.cut_out(offer, hash_part, &table, range).await?;
            if info.piece_hash(index) == Some(&Sha1::digest(&piece).into()) {
                return Ok(piece);
            }
        }
        let reason = format!("piece {index} came out with another hash");
        Err(offer.altered(&reason).await)
    }

    async fn cut_out(
        &self,
        offer: &Offer,
        hash_part: HashPart,
        table: &Arc<FrameTable>,
        range: Range<u64>,
    ) -> Result<Bytes, OfferError> {
        let mut piece = BytesMut::with_capacity((range.end - range.start) as usize);
        for i in table.covering(&range) {
            let making = self.make_frame(offer, hash_part, table.clone(), i);
            let made = self.frames.try_get_with((offer.info_hash, i), making).await;
            let frame = made.map_err(|error| (*error).clone())?;
            piece.extend_from_slice(&frame[within(&table.compressed(i), &range)]);
        }
        Ok(piece.freeze())
    }

    async fn make_frame(
        &self,
        offer: &Offer,
        hash_part: HashPart,
        table: Arc<FrameTable>,
        i: usize,
    ) -> Result<Bytes, OfferError> {
        // A NAR of one frame is read once: not worth remembering, nor a second trip to another thread.
        let open = match table.len() > 1 {
            true => Some(self.open_nar(offer, hash_part).await?),
            false => None,
        };
        let (makers, path) = (self.makers.clone(), offer.path().to_owned());
        let made = self.encoding.run(move || {
            let mut nar = match open {
                Some(nar) => nar,
                None => OpenNar::open(&path)?,
            };
            let idle = makers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut maker = idle
                .map_or_else(FrameMaker::new, Ok)
                .map_err(RecreateError::from)?;
            let made = maker.make(&mut nar, &table, i);
            makers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(maker);
            Ok(made?)
        });
        match made.await? {
            Ok(frame) => Ok(frame),
            Err(error) => {
                // It is planned anew for whoever asks next.
                self.nars.invalidate(&hash_part).await;
                Err(offer.failed(error).await)
            }
        }
    }

    async fn open_nar(&self, offer: &Offer, hash_part: HashPart) -> Result<OpenNar, OfferError> {
        let opening = async {
            let path = offer.path().to_owned();
            match blocking(move || OpenNar::open(&path)).await? {
                Ok(nar) => Ok(nar),
                Err(error) => Err(offer.failed(error.into()).await),
            }
        };
        let opened = self.nars.try_get_with(hash_part, opening).await;
        opened.map_err(|error| (*error).clone())
    }

    /// Says when it is dropped that something was used.
    fn used(&self) -> Used<'_> {
        Used(&self.used)
    }
}

struct Used<'a>(&'a Notify);

impl Drop for Used<'_> {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn of_bytes<K: Hash + Eq + Send + Sync + 'static>(capacity: u64) -> Cache<K, Bytes> {
    Cache::builder()
        .max_capacity(capacity)
        .weigher(|_, bytes: &Bytes| ENTRY_BYTES + bytes.len() as u32)
        .time_to_idle(BYTES_IDLE)
        .build()
}

/// The info dict of a payload, and the first frame if it was made for that.
fn describe_content(content: Content, size: u64) -> Result<(InfoDict, Option<Bytes>), CopyError> {
    match content {
        Content::Installed { path, .. } => {
            let mut nar = NarReader::open(scan(&path)?);
            let mut first = None;
            let described = describe(&mut nar, size, |frame| {
                first.get_or_insert_with(|| Bytes::copy_from_slice(frame));
                Ok(())
            });
            Ok((described?.info, first))
        }
        Content::File { path, name, .. } => {
            let info = describe_payload(File::open(&path)?, name, size)?;
            Ok((info, None))
        }
        Content::Plain(file) => Ok((InfoDict::clone(&file.info), None)),
        Content::Download(part) => Ok((InfoDict::clone(part.info()), None)),
    }
}

/// The part of `container` that `range` covers, counted from its start.
fn within(container: &Range<u64>, range: &Range<u64>) -> Range<usize> {
    let start = range.start.max(container.start) - container.start;
    let end = range.end.min(container.end) - container.start;
    start as usize..end as usize
}

pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OfferError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| OfferError::Stopping)
}
