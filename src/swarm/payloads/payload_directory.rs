//! `STATE/cache`: payloads, parts of downloads and NARs on their way, together never more than the cache size.
//!
//! Who wants to write asks for room first, which lets go of what is spare or was not used for longest; what somebody
//! writes at the moment is counted in its full size and not touched.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use thiserror::Error;
use tokio::sync::Notify;

use crate::torrent::InfoHash;

use super::cache_contents::{Contents, Held};
use super::cache_file::{CacheFile, is_index_alone};

#[derive(Debug, Error)]
pub enum NoRoom {
    #[error("{bytes} bytes do not fit into [cache] size = {limit} bytes")]
    TooLarge { bytes: u64, limit: u64 },
    #[error("the cache is full of what is being written at the moment")]
    Busy,
    #[error("making room in {path}: {source}")]
    Disk { path: PathBuf, source: io::Error },
}

#[derive(Clone)]
pub struct PayloadDirectory {
    inner: Arc<Inner>,
}

struct Inner {
    path: PathBuf,
    limit: u64,
    state: Mutex<Contents>,
    /// Something is not pinned any more.
    freed: Notify,
}

/// Room for one file that is being written. When dropped, a part stays for whoever goes on with it; a spool goes.
pub struct Room {
    directory: PayloadDirectory,
    name: CacheFile,
}

impl PayloadDirectory {
    /// Takes over what an earlier run left; what cannot be gone on with is removed.
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        let mut state = Contents::default();
        for file in fs::read_dir(path)? {
            let file = file?;
            if is_index_alone(&file.path()) {
                // Of a part that had just become a payload when the program was killed. It may be tried again.
                let _ = fs::remove_file(file.path());
            }
            let (Some(name), Ok(metadata)) = (
                CacheFile::parse(&file.file_name().to_string_lossy()),
                file.metadata(),
            ) else {
                continue;
            };
            let have = name.have_path(path);
            let bytes = metadata.len() + have.map_or(0, |have| length(&have));
            state.set(
                name,
                Held {
                    bytes,
                    used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                    pinned: false,
                },
            );
        }
        let spools: Vec<CacheFile> = state
            .files
            .keys()
            .copied()
            .filter(CacheFile::is_spool)
            .collect();
        for spool in spools {
            // Nobody will ask for it again: should it stay, it is still counted.
            if fs::remove_file(spool.path(path)).is_ok() {
                state.unset(spool);
            }
        }
        let directory = Self {
            inner: Arc::new(Inner {
                path: path.to_owned(),
                limit,
                state: Mutex::new(state),
                freed: Notify::new(),
            }),
        };
        // It may have been larger before. What cannot be removed now is tried again with the next file.
        let _ = directory.let_go(&mut directory.lock(), None, 0, |_| false);
        Ok(directory)
    }

    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    pub fn limit(&self) -> u64 {
        self.inner.limit
    }

    /// A whole payload.
    pub fn find(&self, info_hash: &InfoHash) -> Option<PathBuf> {
        let path = self.payload_path(info_hash);
        path.exists().then_some(path)
    }

    /// Used now: the cache lets go of it last.
    pub fn touch(&self, info_hash: &InfoHash) {
        let now = SystemTime::now();
        if let Some(held) = self.lock().files.get_mut(&CacheFile::Payload(*info_hash)) {
            held.used = now;
        }
        if let Ok(file) = fs::File::open(self.payload_path(info_hash)) {
            // Only the order after the next start depends on it.
            let _ = file.set_modified(now);
        }
    }

    /// Rises whenever `kept` may say something else than before.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The info hashes of all whole payloads.
    pub fn kept(&self) -> HashSet<InfoHash> {
        let state = self.lock();
        let whole = state.files.keys().filter_map(|name| match name {
            CacheFile::Payload(info_hash) => Some(*info_hash),
            CacheFile::Part(_) | CacheFile::Spool(_) => None,
        });
        whole.collect()
    }

    pub fn payload_path(&self, info_hash: &InfoHash) -> PathBuf {
        CacheFile::Payload(*info_hash).path(&self.inner.path)
    }

    pub fn remove(&self, info_hash: &InfoHash) -> io::Result<()> {
        self.lock().unset(CacheFile::Payload(*info_hash));
        fs::remove_file(self.payload_path(info_hash))
    }

    /// Room for a part of `bytes` with its index. `spare` says what the store can give too: that goes first.
    pub fn part_room(
        &self,
        info_hash: InfoHash,
        bytes: u64,
        spare: impl Fn(&InfoHash) -> bool,
    ) -> Result<Room, NoRoom> {
        self.room(CacheFile::Part(info_hash), bytes, spare)
    }

    /// Room for a file that nobody finds by name.
    pub fn spool_room(
        &self,
        bytes: u64,
        spare: impl Fn(&InfoHash) -> bool,
    ) -> Result<Room, NoRoom> {
        let number = {
            let mut state = self.lock();
            state.spools += 1;
            state.spools
        };
        self.room(CacheFile::Spool(number), bytes, spare)
    }

    /// Resolves when room may be there that was not before, if asked for before looking.
    pub fn freed(&self) -> impl Future<Output = ()> {
        self.inner.freed.notified()
    }

    fn room(
        &self,
        name: CacheFile,
        bytes: u64,
        spare: impl Fn(&InfoHash) -> bool,
    ) -> Result<Room, NoRoom> {
        let limit = self.inner.limit;
        if bytes > limit {
            return Err(NoRoom::TooLarge { bytes, limit });
        }
        let mut state = self.lock();
        let there = state.files.get(&name).map_or(0, |held| held.bytes);
        self.let_go(&mut state, Some(name), bytes.saturating_sub(there), spare)?;
        state.set(
            name,
            Held {
                bytes: bytes.max(there),
                used: SystemTime::now(),
                pinned: true,
            },
        );
        drop(state);
        Ok(Room {
            directory: self.clone(),
            name,
        })
    }

    /// Lets go of what is loose until `wanted` more bytes fit, but not of `name`.
    fn let_go(
        &self,
        state: &mut Contents,
        name: Option<CacheFile>,
        wanted: u64,
        spare: impl Fn(&InfoHash) -> bool,
    ) -> Result<(), NoRoom> {
        let limit = self.inner.limit;
        if state.total + wanted <= limit {
            return Ok(());
        }
        let mut loose: Vec<(CacheFile, Held)> = state.files.iter().map(|(n, h)| (*n, *h)).collect();
        loose.retain(|(other, held)| !held.pinned && Some(*other) != name);
        if state.total + wanted - loose.iter().map(|(_, held)| held.bytes).sum::<u64>() > limit {
            return Err(NoRoom::Busy);
        }
        let is_spare = |name: &CacheFile| matches!(name, CacheFile::Payload(hash) if spare(hash));
        loose.sort_by_cached_key(|(name, held)| (!is_spare(name), held.used));
        for (name, _) in loose {
            if state.total + wanted <= limit {
                break;
            }
            // Within the lock: nobody may write into room that is not there yet.
            self.delete(name)?;
            state.unset(name);
        }
        Ok(())
    }

    fn delete(&self, name: CacheFile) -> Result<(), NoRoom> {
        let path = name.path(&self.inner.path);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(NoRoom::Disk { path, source });
            }
            _ => {}
        }
        if let Some(have) = name.have_path(&self.inner.path) {
            // Without its part it is a few bytes that the next download of it starts anew.
            let _ = fs::remove_file(have);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.inner.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Room {
    pub fn path(&self) -> PathBuf {
        self.name.path(&self.directory.inner.path)
    }

    /// What was written here is now the whole payload `info_hash`.
    pub fn kept_as(self, info_hash: InfoHash) {
        let path = self.directory.payload_path(&info_hash);
        let mut state = self.directory.lock();
        state.unset(self.name);
        state.set(
            CacheFile::Payload(info_hash),
            Held {
                bytes: length(&path),
                used: SystemTime::now(),
                pinned: false,
            },
        );
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let path = self.path();
        if self.name.is_spool() {
            // One that became a payload has been renamed.
            let _ = fs::remove_file(&path);
        }
        let mut state = self.directory.lock();
        if state.files.contains_key(&self.name) {
            let have = self.name.have_path(&self.directory.inner.path);
            match length(&path) + have.map_or(0, |have| length(&have)) {
                0 => state.unset(self.name),
                bytes => state.set(
                    self.name,
                    Held {
                        bytes,
                        used: SystemTime::now(),
                        pinned: false,
                    },
                ),
            }
        }
        drop(state);
        self.directory.inner.freed.notify_waiters();
    }
}

fn length(path: &Path) -> u64 {
    path.metadata().map_or(0, |metadata| metadata.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn hash(i: u8) -> InfoHash {
        InfoHash::from_bytes([i; 20])
    }

    /// A part and four payloads of 25 bytes, the part the oldest.
    fn filled(directory: &Path) {
        for i in 0..5 {
            let suffix = if i == 0 { "part" } else { "nar.zst" };
            let path = directory.join(format!("{}.{suffix}", hash(i)));
            fs::write(&path, [0; 25]).unwrap();
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(u64::from(i));
            fs::File::open(&path).unwrap().set_modified(at).unwrap();
        }
    }

    #[test]
    fn spare_and_old_ones_go_first_and_what_is_written_stays() {
        let directory = tempfile::tempdir().unwrap();
        filled(directory.path());
        fs::write(directory.path().join("7.spool"), [0; 90]).unwrap();
        let [index, orphan] = [0, 1].map(|i| directory.path().join(format!("{}.have", hash(i))));
        fs::write(&index, "").unwrap();
        fs::write(&orphan, "").unwrap();
        let cache = PayloadDirectory::open(directory.path(), 125).unwrap();
        assert!(!directory.path().join("7.spool").exists(), "means nothing");
        assert!(
            index.exists() && !orphan.exists(),
            "its part became a payload"
        );
        fs::remove_file(index).unwrap();
        let spare = |info_hash: &InfoHash| *info_hash == hash(3);
        let part = cache.part_room(hash(0), 25, spare).unwrap();
        let spool = cache.spool_room(50, spare).unwrap();
        assert_eq!(
            cache.kept(),
            HashSet::from([hash(2), hash(4)]),
            "the spare one and the oldest went"
        );
        assert!(part.path().exists());
        assert!(matches!(cache.spool_room(60, spare), Err(NoRoom::Busy)));
        assert!(matches!(
            cache.spool_room(126, spare),
            Err(NoRoom::TooLarge { .. })
        ));
        assert_eq!(cache.kept().len(), 2, "nothing goes in vain");
        drop(spool);
        assert!(cache.spool_room(100, spare).is_ok());
        drop(part);
        filled(directory.path());
        PayloadDirectory::open(directory.path(), 60).unwrap();
        assert_eq!(
            fs::read_dir(directory.path()).unwrap().count(),
            2,
            "the size has become smaller"
        );
        let cache = PayloadDirectory::open(directory.path(), 125).unwrap();
        assert!(cache.spool_room(125, |_| false).is_ok());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_part_becomes_a_payload_or_is_gone_on_with() {
        let directory = tempfile::tempdir().unwrap();
        let cache = PayloadDirectory::open(directory.path(), 100).unwrap();
        let room = cache.part_room(hash(1), 60, |_| false).unwrap();
        fs::write(room.path(), [0; 60]).unwrap();
        drop(room);
        let room = cache.part_room(hash(1), 80, |_| false).unwrap();
        assert!(room.path().exists(), "it was counted already");
        fs::rename(room.path(), cache.payload_path(&hash(1))).unwrap();
        room.kept_as(hash(1));
        assert!(cache.find(&hash(1)).is_some());
        assert!(cache.part_room(hash(2), 40, |_| false).is_ok());
        assert!(cache.find(&hash(1)).is_some(), "60 and 40 fit");
        cache.remove(&hash(1)).unwrap();
        assert!(cache.kept().is_empty());
    }
}
