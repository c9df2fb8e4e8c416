//! What to download, and what is known of it beforehand.

use crate::torrent::InfoHash;

/// What to download: the row's word on it, to hold what peers send against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    pub info_hash: InfoHash,
    pub length: Expected,
}

/// What is known of a length beforehand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Exactly(u64),
    AtMost(u64),
}

impl Expected {
    pub fn allows(self, length: u64) -> bool {
        match self {
            Self::Exactly(expected) => length == expected,
            Self::AtMost(limit) => length <= limit,
        }
    }
}
