//! A NAR on its way from an upstream: its bytes wait here for everybody who reads it, at whatever offset they are.
//!
//! Small ones in memory, within a bound for all of them; the others in a file of the cache, counted in its size.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::payload_directory::Room;

/// Most NARs are smaller than this, and none of them is worth a file.
pub const IN_MEMORY: u64 = 256 * 1024;
/// All that wait in memory together: a hundred of the largest, while Nix asks for 25 at a time.
pub const MEMORY: usize = 32 << 20;

pub struct Spool {
    size: u64,
    place: Place,
    progress: watch::Sender<Progress>,
}

enum Place {
    Memory {
        bytes: Mutex<Vec<u8>>,
        _share: OwnedSemaphorePermit,
    },
    File {
        file: File,
        _room: Room,
    },
}

/// How far it has come; nothing follows when it has `ended`, whole or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    pub written: u64,
    pub ended: bool,
}

impl Spool {
    pub fn in_memory(size: u64, share: OwnedSemaphorePermit) -> Self {
        let place = Place::Memory {
            bytes: Mutex::default(),
            _share: share,
        };
        Self::new(size, place)
    }

    /// In a file that has its whole size from the start, so that a full disk is noticed before the first byte.
    pub fn in_file(size: u64, room: Room) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = options.open(room.path())?;
        match fallocate(&file, FallocateFlags::empty(), 0, size) {
            // Some file systems cannot; they may be full later, and the fetch ends there.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
            Err(error) => return Err(error.into()),
        }
        let place = Place::File { file, _room: room };
        Ok(Self::new(size, place))
    }

    fn new(size: u64, place: Place) -> Self {
        Self {
            size,
            place,
            progress: watch::Sender::new(Progress::default()),
        }
    }

    /// NarSize: more is never written.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Wakes at every write and at the end.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    pub fn written(&self) -> u64 {
        self.progress.borrow().written
    }

    pub fn is_whole(&self) -> bool {
        self.written() == self.size
    }

    /// Adds the next bytes; whoever writes is the only one.
    pub async fn append(self: &Arc<Self>, chunk: Bytes) -> io::Result<()> {
        let (at, length) = (self.written(), chunk.len() as u64);
        if length > self.size - at {
            return Err(io::Error::other("more bytes than the NAR has"));
        }
        match &self.place {
            Place::Memory { bytes, .. } => bytes
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .extend_from_slice(&chunk),
            Place::File { .. } => {
                let spool = self.clone();
                blocking(move || spool.file()?.write_all_at(&chunk, at)).await?;
            }
        }
        self.progress
            .send_modify(|progress| progress.written = at + length);
        Ok(())
    }

    /// Nothing follows.
    pub fn end(&self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }

    /// At most `most` of the bytes that were written from `offset` on; none when there are none yet.
    pub async fn read(self: &Arc<Self>, offset: u64, most: usize) -> io::Result<Bytes> {
        let length = self.written().saturating_sub(offset).min(most as u64) as usize;
        match &self.place {
            Place::Memory { bytes, .. } => {
                let bytes = bytes.lock().unwrap_or_else(PoisonError::into_inner);
                let start = (offset as usize).min(bytes.len());
                Ok(Bytes::copy_from_slice(&bytes[start..start + length]))
            }
            Place::File { .. } => {
                let spool = self.clone();
                blocking(move || {
                    let mut buffer = vec![0; length];
                    spool.file()?.read_exact_at(&mut buffer, offset)?;
                    Ok(buffer.into())
                })
                .await
            }
        }
    }

    fn file(&self) -> io::Result<&File> {
        match &self.place {
            Place::File { file, .. } => Ok(file),
            Place::Memory { .. } => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::payloads::PayloadDirectory;
    use tokio::sync::Semaphore;

    #[tokio::test]
    async fn bytes_are_there_for_everybody_as_soon_as_they_are_written() {
        let directory = tempfile::tempdir().unwrap();
        let cache = PayloadDirectory::open(directory.path(), 100).unwrap();
        let share = Arc::new(Semaphore::new(10)).try_acquire_many_owned(10);
        let room = cache.spool_room(10, |_| false).unwrap();
        for spool in [
            Spool::in_memory(10, share.unwrap()),
            Spool::in_file(10, room).unwrap(),
        ] {
            let spool = Arc::new(spool);
            let mut progress = spool.progress();
            spool.append("0123".into()).await.unwrap();
            assert_eq!(spool.read(1, 2).await.unwrap(), "12");
            assert_eq!(spool.read(3, 9).await.unwrap(), "3");
            assert_eq!(spool.read(4, 9).await.unwrap(), "");
            assert!(spool.append("1234567".into()).await.is_err(), "11 bytes");
            spool.append("456789".into()).await.unwrap();
            spool.end();
            assert!(spool.is_whole() && progress.borrow_and_update().ended);
            assert_eq!(spool.read(0, 99).await.unwrap(), "0123456789");
        }
        let left = std::fs::read_dir(directory.path()).unwrap().count();
        assert_eq!(left, 0, "the file goes with the spool");
    }
}
