//! Payload files that downloads left, by info hash, within the cache size: the least recently used go first.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::torrent::InfoHash;

/// `STATE/cache`: `<info hash>.nar.zst` for whole payloads; running downloads keep their parts beside them.
#[derive(Clone)]
pub struct PayloadDirectory {
    path: Arc<Path>,
    limit: u64,
}

/// A file in the directory, as eviction sees it.
struct Kept {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

impl PayloadDirectory {
    pub fn open(path: &Path, limit: u64) -> io::Result<Self> {
        fs::create_dir_all(path)?;
        Ok(Self {
            path: path.into(),
            limit,
        })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn limit(&self) -> u64 {
        self.limit
    }

    pub fn find(&self, info_hash: &InfoHash) -> Option<PathBuf> {
        let path = self.payload_path(info_hash);
        path.exists().then_some(path)
    }

    /// The info hashes of all whole payloads.
    pub fn kept(&self) -> HashSet<InfoHash> {
        let files = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let names = files.filter_map(|file| file.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_suffix(".nar.zst")?.parse().ok())
            .collect()
    }

    pub fn payload_path(&self, info_hash: &InfoHash) -> PathBuf {
        self.path.join(format!("{info_hash}.nar.zst"))
    }

    pub fn remove(&self, info_hash: &InfoHash) -> io::Result<()> {
        fs::remove_file(self.payload_path(info_hash))
    }

    /// Makes room for `wanted` more bytes. Returns false when even an empty cache would be too small. Files of
    /// `running` downloads are counted but not touched.
    pub fn make_room(&self, wanted: u64, running: &[InfoHash]) -> io::Result<bool> {
        let mut files = self.files()?;
        let is_running = |file: &Kept| {
            let stem = file
                .path
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            running
                .iter()
                .any(|info_hash| info_hash.to_string() == stem)
        };
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        files.retain(|file| !is_running(file));
        files.sort_unstable_by_key(|file| file.used);
        for file in files {
            if total.saturating_add(wanted) <= self.limit {
                break;
            }
            fs::remove_file(&file.path)?;
            // The index of a part goes with it.
            let _ = fs::remove_file(file.path.with_extension("have"));
            total -= file.bytes;
        }
        Ok(total.saturating_add(wanted) <= self.limit)
    }

    fn files(&self) -> io::Result<Vec<Kept>> {
        let mut files = Vec::new();
        for file in fs::read_dir(&self.path)? {
            let path = file?.path();
            let payload = path.extension().is_some_and(|e| e == "zst" || e == "part");
            if let (true, Ok(metadata)) = (payload, path.metadata()) {
                let used = metadata
                    .accessed()
                    .or_else(|_| metadata.modified())
                    .unwrap_or(SystemTime::UNIX_EPOCH);
                files.push(Kept {
                    path,
                    bytes: metadata.len(),
                    used,
                });
            }
        }
        Ok(files)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first_and_running_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let cache = PayloadDirectory::open(directory.path(), 100).unwrap();
        let hash = |i: u8| InfoHash::from_bytes([i; 20]);
        for i in 0..4 {
            let name = if i == 0 {
                format!("{}.part", hash(0))
            } else {
                format!("{}.nar.zst", hash(i))
            };
            let path = directory.path().join(name);
            fs::write(&path, [0; 25]).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(i));
            fs::File::open(&path)
                .unwrap()
                .set_times(fs::FileTimes::new().set_accessed(at))
                .unwrap();
        }
        assert!(cache.make_room(50, &[hash(0)]).unwrap());
        assert_eq!(cache.find(&hash(1)), None);
        assert_eq!(cache.find(&hash(2)), None);
        assert!(cache.find(&hash(3)).is_some());
        assert!(directory.path().join(format!("{}.part", hash(0))).exists());
        assert!(!cache.make_room(80, &[hash(0)]).unwrap());
    }
}
