//! A cheap stamp of the database, to see that it changed.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    time::{Duration, SystemTime},
};

/// File times advance with the kernel's clock tick (at most 10 ms): within it a second write leaves no trace.
const TICK: Duration = Duration::from_millis(20);

/// Equal stamps mean an unchanged database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Generation {
    database: FileStamp,
    wal: FileStamp,
    /// Set when the last write is so recent that another one could hide behind it: such a stamp equals no later one.
    taken_at: Option<SystemTime>,
}

/// Device, inode, length, seconds and nanoseconds of the last change; `None` when there is no such file.
type FileStamp = Option<(u64, u64, u64, i64, i64)>;

impl Generation {
    pub(super) fn of(database: &Path, wal: &Path) -> Self {
        let now = SystemTime::now();
        let mut recent = false;
        let mut stamp = |path: &Path| {
            let metadata = fs::metadata(path).ok()?;
            recent |= metadata
                .modified()
                .is_ok_and(|time| now.duration_since(time).is_ok_and(|age| age < TICK));
            Some((
                metadata.dev(),
                metadata.ino(),
                metadata.size(),
                metadata.mtime(),
                metadata.mtime_nsec(),
            ))
        };
        Self {
            database: stamp(database),
            wal: stamp(wal),
            taken_at: recent.then_some(now),
        }
    }

    /// Whether everything is in the database file itself, and has been long enough to tell.
    pub(super) fn is_settled(&self) -> bool {
        self.taken_at.is_none() && self.wal.is_none_or(|(_, _, size, _, _)| size == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::thread::sleep;

    use super::*;

    #[test]
    fn every_write_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let (database, wal) = (dir.path().join("db"), dir.path().join("db-wal"));
        let stamp = || Generation::of(&database, &wal);
        fs::write(&database, "1").unwrap();
        // Recent: it may not equal anything later.
        let first = stamp();
        fs::write(&database, "2").unwrap();
        assert_ne!(stamp(), first);
        assert!(!first.is_settled());
        sleep(TICK * 2);
        let settled = stamp();
        assert_eq!(stamp(), settled);
        assert!(settled.is_settled());
        fs::write(&wal, "").unwrap();
        assert_ne!(stamp(), settled);
        sleep(TICK * 2);
        assert!(stamp().is_settled());
        fs::write(&wal, "frame").unwrap();
        sleep(TICK * 2);
        assert!(!stamp().is_settled());
    }
}
