//! NARs that come from an upstream: where their bytes wait, and how they become payloads that are offered at once.
//!
//! The payload is made beside the NAR's way to Nix, from what waits for others anyway: one frame at a time on one core,
//! and not at all when too many wait for their turn.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{Mutex, Semaphore};

use crate::catalog::{Entry, InfoDictsError};
use crate::nix::NarHash;
use crate::payload::{
    Encoder, EncoderError, FRAME_SIZE, FrameTable, FrameTableError, PayloadBuilder,
};
use crate::torrent::{InfoDict, InfoHash};

use super::download::{Claim, Claimant, Download, Fetch};
use super::downloads::{DownloadError, Downloads};
use crate::swarm::payloads::{IN_MEMORY, MEMORY, NoRoom, Room, Spool};

/// NARs that wait for their turn hold their bytes in the cache; when so many do, the encoder is too slow for the line.
const BACKLOG: usize = 64;

/// The means for it, one for all downloads.
pub struct Reusing {
    memory: Arc<Semaphore>,
    backlog: Arc<Semaphore>,
    /// Encoding is one at a time: Nix is unpacking on the other cores.
    encoder: Arc<Mutex<Option<Encoder>>>,
}

impl Default for Reusing {
    fn default() -> Self {
        Self {
            memory: Arc::new(Semaphore::new(MEMORY)),
            backlog: Arc::new(Semaphore::new(BACKLOG)),
            encoder: Arc::default(),
        }
    }
}

#[derive(Debug, Error)]
enum ReuseError {
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error(transparent)]
    Room(#[from] NoRoom),
    #[error(transparent)]
    InfoDicts(#[from] InfoDictsError),
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    Frames(#[from] FrameTableError),
    #[error("disk: {0}")]
    Disk(#[from] io::Error),
    #[error("the NAR was not fetched to its end")]
    BrokenOff,
    #[error("the swarm is asked for the rest")]
    Displaced,
    #[error("the row names {0}, its NAR makes another payload")]
    InfoHash(InfoHash),
}

impl Downloads {
    /// A place for a NAR of `size` bytes to wait in; `None` when there is none, and it has to be passed on at once.
    pub async fn spool(&self, size: u64) -> Option<Spool> {
        let memory = &self.reusing.memory;
        if size <= IN_MEMORY
            && let Ok(share) = memory.clone().try_acquire_many_owned(size as u32)
        {
            return Some(Spool::in_memory(size, share));
        }
        let (directory, book) = (self.directory.clone(), self.book.clone());
        let made = tokio::task::spawn_blocking(move || {
            let room = directory.spool_room(size, |kept| book.is_installed(kept))?;
            Ok::<_, ReuseError>(Spool::in_file(size, room)?)
        });
        made.await
            .ok()?
            .inspect_err(|error| {
                tracing::debug!(size, %error, "a NAR is not shared");
                self.note_disk(error);
            })
            .ok()
    }

    fn note_disk(&self, error: &ReuseError) {
        match error {
            ReuseError::Disk(source) | ReuseError::Room(NoRoom::Disk { source, .. }) => {
                self.not_kept(source);
            }
            _ => {}
        }
    }

    /// Makes the payload of `entry` from its NAR as that comes in. Returns whether it will be tried.
    pub fn reuse(self: &Arc<Self>, entry: &Entry, nar: Arc<Spool>) -> bool {
        let Ok(turn) = self.reusing.backlog.clone().try_acquire_owned() else {
            return false;
        };
        let makes = entry.our_encoder && self.book.encodes();
        if !makes || self.kept(&entry.info_hash).is_some() {
            return false;
        }
        let (downloads, info_hash) = (self.clone(), entry.info_hash);
        let nar_hash = entry.nar_hash;
        self.tasks.spawn(async move {
            let _turn = turn;
            let making = downloads.make(info_hash, nar_hash, &nar);
            let made = tokio::select! {
                () = downloads.stop.cancelled() => return,
                made = making => made,
            };
            match made {
                Ok(()) => {}
                Err(error) => {
                    tracing::debug!(%info_hash, %error, "a NAR did not become a payload");
                    downloads.note_disk(&error);
                }
            }
        });
        true
    }

    async fn make(
        self: &Arc<Self>,
        info_hash: InfoHash,
        nar_hash: NarHash,
        nar: &Arc<Spool>,
    ) -> Result<(), ReuseError> {
        match self.infos.get(&info_hash)? {
            Some(info) => self.complete(Arc::new(info), nar).await,
            None => self.make_whole(info_hash, nar_hash, nar).await,
        }
    }

    /// Fills a part, one that an earlier download left perhaps: every piece is offered as soon as it is whole.
    async fn complete(
        self: &Arc<Self>,
        info: Arc<InfoDict>,
        nar: &Arc<Spool>,
    ) -> Result<(), ReuseError> {
        let Claim { download, room } = loop {
            let ended = self.ended();
            match self.claim(info.clone(), Claimant::Nar).await? {
                Ok(claim) => break claim,
                Err(Fetch::Kept(_)) => return Ok(()),
                // The swarm is at it. Should it be left, the rest is ours.
                Err(Fetch::Running(running)) => drop(running),
            }
            ended.await;
        };
        let filled = self.fill(&download, &info, nar).await;
        if let Err(error) = &filled {
            download.part().fail(error);
        }
        self.release(download.part().clone(), room).await;
        filled
    }

    async fn fill(
        self: &Arc<Self>,
        download: &Arc<Download>,
        info: &InfoDict,
        nar: &Arc<Spool>,
    ) -> Result<(), ReuseError> {
        let frames = info.frames.as_deref().unwrap_or_default();
        let table = FrameTable::new(nar.size(), info.length, frames)?;
        for i in 0..table.len() {
            let (raw, compressed) = (table.raw(i), table.compressed(i));
            let part = download.part().clone();
            // A frame that is being written is finished: the swarm writes to the same file.
            let frame = self.await_frame(nar, raw.start);
            tokio::select! {
                came = frame => came?,
                () = download.displaced() => return Err(ReuseError::Displaced),
            }
            self.encode(nar, raw.start, move |frame| {
                if frame.len() as u64 != compressed.end - compressed.start {
                    return Err(ReuseError::InfoHash(part.info_hash()));
                }
                Ok(part.fill(compressed.start, frame)?)
            })
            .await?;
        }
        Ok(())
    }

    /// Makes a payload of which nobody knows the info dict: it can be offered when its info hash has come out right.
    async fn make_whole(
        self: &Arc<Self>,
        info_hash: InfoHash,
        nar_hash: NarHash,
        nar: &Arc<Spool>,
    ) -> Result<(), ReuseError> {
        let room = self.payload_room(nar.size()).await?;
        let path = room.path();
        let mut options = OpenOptions::new();
        let file = Arc::new(
            options
                .write(true)
                .create(true)
                .truncate(true)
                .open(&path)?,
        );
        let mut builder = PayloadBuilder::new(nar.size());
        for i in 0..nar.size().div_ceil(FRAME_SIZE as u64) {
            let file = file.clone();
            let write = move |frame: &[u8]| {
                (&*file).write_all(frame)?;
                builder.frame(frame);
                Ok(builder)
            };
            let start = i * FRAME_SIZE as u64;
            self.await_frame(nar, start).await?;
            builder = self.encode(nar, start, write).await?;
        }
        let info = builder.finish(nar_hash);
        if info.info_hash() != info_hash {
            return Err(ReuseError::InfoHash(info_hash));
        }
        let (infos, to) = (self.infos.clone(), self.directory.payload_path(&info_hash));
        let kept = tokio::task::spawn_blocking(move || {
            file.sync_data()?;
            infos.put(&info)?;
            std::fs::rename(&path, to)?;
            room.kept_as(info_hash);
            Ok(())
        });
        kept.await.unwrap_or(Err(ReuseError::BrokenOff))
    }

    /// Room for the payload of a NAR of `size` bytes, whatever it compresses to.
    async fn payload_room(&self, size: u64) -> Result<Room, ReuseError> {
        let (directory, book) = (self.directory.clone(), self.book.clone());
        let bytes = PayloadBuilder::most(size);
        let room = tokio::task::spawn_blocking(move || {
            directory.spool_room(bytes, |kept| book.is_installed(kept))
        });
        Ok(room.await.unwrap_or(Err(NoRoom::Busy))?)
    }

    /// Waits until the NAR has come as far as the frame at `start` goes.
    async fn await_frame(&self, nar: &Arc<Spool>, start: u64) -> Result<(), ReuseError> {
        let length = (nar.size() - start).min(FRAME_SIZE as u64);
        let mut progress = nar.progress();
        let written = progress.wait_for(|p| p.written >= start + length || p.ended);
        match written.await.is_ok_and(|p| p.written < start + length) {
            true => Err(ReuseError::BrokenOff),
            false => Ok(()),
        }
    }

    /// Gives `sink` what the frame at `start` is encoded to.
    async fn encode<T: Send + 'static>(
        &self,
        nar: &Arc<Spool>,
        start: u64,
        sink: impl FnOnce(&[u8]) -> Result<T, ReuseError> + Send + 'static,
    ) -> Result<T, ReuseError> {
        let length = (nar.size() - start).min(FRAME_SIZE as u64);
        let mut encoder = self.reusing.encoder.clone().lock_owned().await;
        let raw = nar.read(start, length as usize).await?;
        let made = tokio::task::spawn_blocking(move || {
            let encoder = match &mut *encoder {
                Some(encoder) => encoder,
                none => none.insert(Encoder::new()?),
            };
            sink(encoder.encode(&raw)?)
        });
        made.await.unwrap_or(Err(ReuseError::BrokenOff))
    }
}
