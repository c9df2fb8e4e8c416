//! The means to make the pieces of all offers: caches, and bounds on the work.

use std::fs::File;
use std::hash::Hash;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use moka::future::Cache;
use sha1::{Digest, Sha1};

use crate::catalog::{InfoDicts, Offers, PayloadCopy};
use crate::payload::{
    FrameMaker, FrameTable, NarSource, RecreateError, describe, describe_payload,
};
use crate::store::{NarReader, scan};
use crate::torrent::{InfoDict, InfoHash};

use super::encoding::{Encoding, Recreation};
use super::offer::{Content, Offer, OfferError};

/// Compressed frames kept for the pieces that are asked next; a frame is 1.5 MB or so.
const FRAME_CACHE_BYTES: u64 = 48 << 20;
/// Verified pieces kept for other peers that ask the same.
const PIECE_CACHE_BYTES: u64 = 24 << 20;
/// Open NARs: a layout and one file descriptor each.
const OPEN_NARS: u64 = 32;
const NAR_IDLE: Duration = Duration::from_secs(20);
/// Info dicts in memory; most are a few hundred bytes, the largest 80 kB.
const INFO_CACHE_BYTES: u64 = 8 << 20;

/// The shared means to make pieces: caches, and bounds on the work.
pub struct Workshop {
    offers: Arc<Offers>,
    infos: Arc<InfoDicts>,
    info_cache: Cache<InfoHash, Arc<InfoDict>>,
    frames: Cache<(InfoHash, usize), Bytes>,
    pub pieces: Cache<(InfoHash, u32), Bytes>,
    nars: Cache<PathBuf, Arc<Mutex<NarReader>>>,
    /// Encoding is the one thing here that takes a core.
    encoding: Encoding,
    /// Idle ones; at most as many as may encode.
    makers: Arc<Mutex<Vec<FrameMaker>>>,
}

impl Workshop {
    pub fn new(
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        recreation: Recreation,
    ) -> io::Result<Self> {
        Ok(Self {
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
            encoding: Encoding::new(recreation)?,
            makers: Arc::default(),
        })
    }

    /// What is on disk is not what the row says: not offered any more.
    pub fn withdraw(&self, copy: PayloadCopy) {
        self.offers.withdraw(copy);
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
            let (content, size) = (offer.content.clone(), offer.size);
            let computed = self.encoding.run(move || match content {
                Content::Installed { path, .. } => {
                    let mut nar = NarReader::open(scan(&path).map_err(|e| e.to_string())?);
                    let mut first = None;
                    let described = describe(&mut nar, size, |frame| {
                        first.get_or_insert_with(|| Bytes::copy_from_slice(frame));
                        Ok(())
                    });
                    described
                        .map(|described| (described.info, first))
                        .map_err(|e| e.to_string())
                }
                Content::File { path, name } => {
                    let file = File::open(&path).map_err(|e| e.to_string())?;
                    let info = describe_payload(file, name, size).map_err(|e| e.to_string())?;
                    Ok((info, None))
                }
                Content::Plain(file) => Ok((InfoDict::clone(&file.info), None)),
                Content::Download(part) => Ok((InfoDict::clone(part.info()), None)),
            });
            let (info, first) = computed.await?.map_err(|reason| OfferError::Read {
                path: offer.path().to_owned(),
                reason,
            })?;
            if info.info_hash() != offer.info_hash {
                return Err(offer.withdraw("its payload has another info hash"));
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

    /// Cuts a piece out of the frames that it lies in.
    pub async fn recreate_piece(&self, offer: &Offer, index: u32) -> Result<Bytes, OfferError> {
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
        // A NAR of one frame is read once: not worth remembering, nor a second trip to another thread.
        let open = if table.len() > 1 {
            Some(self.open_nar(offer).await?)
        } else {
            None
        };
        let (makers, path) = (self.makers.clone(), offer.path().to_owned());
        let made = self.encoding.run(move || {
            let nar = match open {
                Some(nar) => nar,
                None => Arc::new(Mutex::new(NarReader::open(
                    scan(&path).map_err(io::Error::other)?,
                ))),
            };
            let idle = makers.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut maker = idle.map_or_else(FrameMaker::new, Ok)?;
            let made = maker.make(&mut SharedNar(nar), &table, i);
            makers
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(maker);
            made
        });
        match made.await? {
            Ok(frame) => Ok(frame),
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

/// An open NAR that several frames are made of: locked while it is read, not while a frame is encoded.
struct SharedNar(Arc<Mutex<NarReader>>);

impl NarSource for SharedNar {
    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut nar = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut done = 0;
        while done < buffer.len() {
            match nar
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

pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, OfferError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| OfferError::Stopping)
}
