//! The names of files in the cache, and what they say.

use std::path::{Path, PathBuf};

use crate::torrent::InfoHash;

/// A file in the directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CacheFile {
    /// `<info hash>.nar.zst`: whole.
    Payload(InfoHash),
    /// `<info hash>.part`, with the index of its pieces, if it has several, in `<info hash>.have`.
    Part(InfoHash),
    /// `<number>.spool`: means nothing after a restart.
    Spool(u64),
}

impl CacheFile {
    pub fn parse(file_name: &str) -> Option<Self> {
        if let Some(stem) = file_name.strip_suffix(".nar.zst") {
            return stem.parse().ok().map(Self::Payload);
        }
        if let Some(stem) = file_name.strip_suffix(".part") {
            return stem.parse().ok().map(Self::Part);
        }
        let stem = file_name.strip_suffix(".spool")?;
        stem.parse().ok().map(Self::Spool)
    }

    pub fn path(&self, directory: &Path) -> PathBuf {
        directory.join(match self {
            Self::Payload(info_hash) => format!("{info_hash}.nar.zst"),
            Self::Part(info_hash) => format!("{info_hash}.part"),
            Self::Spool(number) => format!("{number}.spool"),
        })
    }

    pub fn have_path(&self, directory: &Path) -> Option<PathBuf> {
        match self {
            Self::Part(info_hash) => Some(have_path(directory, *info_hash)),
            Self::Payload(_) | Self::Spool(_) => None,
        }
    }

    pub fn is_spool(&self) -> bool {
        matches!(self, Self::Spool(_))
    }
}

/// The index of the pieces of a part.
pub fn have_path(directory: &Path, info_hash: InfoHash) -> PathBuf {
    directory.join(format!("{info_hash}.have"))
}

/// Whether this is the index of a part that is not there.
pub fn is_index_alone(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "have")
        && !path.with_extension("part").exists()
}
