//! librqbit's view of a download: its `TorrentStorage` over a part file.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use librqbit::storage::{BoxStorageFactory, StorageFactory, StorageFactoryExt, TorrentStorage};
use librqbit::{ManagedTorrentShared, TorrentMetadata};
use librqbit_core::lengths::ValidPieceIndex;

use crate::runtime::Meter;
use crate::swarm::payloads::PartFile;

#[derive(Clone)]
pub struct PartStorageFactory {
    part: Arc<PartFile>,
    meter: Arc<Meter>,
}

impl PartStorageFactory {
    pub fn boxed(part: Arc<PartFile>, meter: Arc<Meter>) -> BoxStorageFactory {
        StorageFactoryExt::boxed(Self { part, meter })
    }
}

impl StorageFactory for PartStorageFactory {
    type Storage = PartStorage;

    fn create(&self, _: &ManagedTorrentShared, _: &TorrentMetadata) -> Result<PartStorage> {
        Ok(PartStorage {
            part: self.part.clone(),
            meter: self.meter.clone(),
            checking: AtomicBool::new(true),
        })
    }

    fn clone_box(&self) -> BoxStorageFactory {
        Self::boxed(self.part.clone(), self.meter.clone())
    }
}

pub struct PartStorage {
    part: Arc<PartFile>,
    meter: Arc<Meter>,
    /// librqbit first reads every piece to find out what is there.
    checking: AtomicBool,
}

impl TorrentStorage for PartStorage {
    fn init(&mut self, _: &ManagedTorrentShared, _: &TorrentMetadata) -> Result<()> {
        Ok(())
    }

    fn pread_exact(&self, _: usize, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let read = self.part.read_written(offset, buffer);
        // One error makes the check give up on the whole file. That is right for a new download (hashing its holes
        // would be waste), but a resumed one would lose the pieces after its first hole: there the hole reads as
        // whatever the buffer holds, and fails its hash.
        if read.is_err()
            && self.checking.load(Ordering::Relaxed)
            && *self.part.progress().borrow() > 0
        {
            return Ok(());
        }
        Ok(read?)
    }

    fn pwrite_all(&self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        Ok(self.part.write(offset, bytes)?)
    }

    fn remove_file(&self, _: usize, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_directory_if_empty(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn ensure_file_length(&self, _: usize, _: u64) -> Result<()> {
        self.checking.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn take(&self) -> Result<Box<dyn TorrentStorage>> {
        Ok(Box::new(Self {
            part: self.part.clone(),
            meter: self.meter.clone(),
            checking: AtomicBool::new(false),
        }))
    }

    fn on_piece_completed(&self, piece: ValidPieceIndex) -> Result<()> {
        let length = self.part.info().piece_len(piece.get());
        self.meter.add(u64::from(length));
        Ok(self.part.completed(piece.get())?)
    }
}
