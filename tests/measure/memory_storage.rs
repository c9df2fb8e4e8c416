//! A `TorrentStorage` in memory, so that no disk is in the figures of a download.

use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use librqbit::storage::{BoxStorageFactory, StorageFactory, StorageFactoryExt, TorrentStorage};
use librqbit::{ManagedTorrentShared, TorrentMetadata};

#[derive(Clone)]
pub struct MemoryStorageFactory(Arc<Mutex<Vec<u8>>>);

impl MemoryStorageFactory {
    /// For a torrent of one file with this length.
    pub fn boxed(length: u64) -> BoxStorageFactory {
        let content = Vec::with_capacity(length as usize);
        StorageFactoryExt::boxed(Self(Arc::new(Mutex::new(content))))
    }
}

impl StorageFactory for MemoryStorageFactory {
    type Storage = MemoryStorage;

    fn create(&self, _: &ManagedTorrentShared, _: &TorrentMetadata) -> Result<MemoryStorage> {
        Ok(MemoryStorage(self.0.clone()))
    }

    fn clone_box(&self) -> BoxStorageFactory {
        StorageFactoryExt::boxed(self.clone())
    }
}

pub struct MemoryStorage(Arc<Mutex<Vec<u8>>>);

impl TorrentStorage for MemoryStorage {
    fn init(&mut self, _: &ManagedTorrentShared, _: &TorrentMetadata) -> Result<()> {
        Ok(())
    }

    /// What was not written yet is an error: nothing shall be hashed that is not there.
    fn pread_exact(&self, _: usize, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let content = self.0.lock().unwrap();
        let offset = offset as usize;
        let range = offset..offset + buffer.len();
        buffer.copy_from_slice(content.get(range).context("not written")?);
        Ok(())
    }

    fn pwrite_all(&self, _: usize, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut content = self.0.lock().unwrap();
        let offset = offset as usize;
        if content.len() < offset + bytes.len() {
            content.resize(offset + bytes.len(), 0);
        }
        content[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn remove_file(&self, _: usize, _: &Path) -> Result<()> {
        Ok(())
    }

    fn remove_directory_if_empty(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn ensure_file_length(&self, _: usize, length: u64) -> Result<()> {
        self.0.lock().unwrap().resize(length as usize, 0);
        Ok(())
    }

    fn take(&self) -> Result<Box<dyn TorrentStorage>> {
        Ok(Box::new(Self(self.0.clone())))
    }
}
