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
    info_hash: InfoHash,
    whole: bool,
    bytes: u64,
    /// The time of the last change, which readers set: access times are off on many file systems.
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

    /// Makes room for `wanted` more bytes. Returns false when even an empty cache would be too small. What is `spare`,
    /// because the store can give it too, goes first, then what was not used for longest. Files of `running` downloads
    /// are counted but not touched.
    pub fn make_room(
        &self,
        wanted: u64,
        running: &[InfoHash],
        spare: impl Fn(&InfoHash) -> bool,
    ) -> io::Result<bool> {
        let mut files = self.files()?;
        let mut total: u64 = files.iter().map(|file| file.bytes).sum();
        files.retain(|file| file.whole || !running.contains(&file.info_hash));
        files.sort_by_cached_key(|file| (!spare(&file.info_hash), file.used));
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
            let file = file?;
            let name = file.file_name().to_string_lossy().into_owned();
            let (whole, part) = (name.strip_suffix(".nar.zst"), name.strip_suffix(".part"));
            let info_hash = whole.or(part).and_then(|stem| stem.parse().ok());
            if let (Some(info_hash), Ok(metadata)) = (info_hash, file.metadata()) {
                files.push(Kept {
                    path: file.path(),
                    info_hash,
                    whole: whole.is_some(),
                    bytes: metadata.len(),
                    used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
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
    fn spare_and_old_ones_go_first_and_running_ones_stay() {
        let directory = tempfile::tempdir().unwrap();
        let cache = PayloadDirectory::open(directory.path(), 125).unwrap();
        let hash = |i: u8| InfoHash::from_bytes([i; 20]);
        for i in 0..5 {
            let suffix = if i == 0 { "part" } else { "nar.zst" };
            let path = directory.path().join(format!("{}.{suffix}", hash(i)));
            fs::write(&path, [0; 25]).unwrap();
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(u64::from(i));
            fs::File::open(&path).unwrap().set_modified(at).unwrap();
        }
        let spare = |info_hash: &InfoHash| *info_hash == hash(3);
        assert!(cache.make_room(50, &[hash(0)], spare).unwrap());
        assert_eq!(
            cache.kept(),
            HashSet::from([hash(2), hash(4)]),
            "the spare one and the oldest went"
        );
        assert!(directory.path().join(format!("{}.part", hash(0))).exists());
        assert!(!cache.make_room(110, &[hash(0)], |_| false).unwrap());
        assert!(cache.make_room(125, &[], |_| false).unwrap());
    }
}
