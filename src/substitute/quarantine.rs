//! What was caught giving another NAR than the one asked for, per row: it is not asked for that row again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::catalog::Entry;
use crate::nix::{HashPart, NarHash};
use crate::torrent::InfoHash;

/// A source of one NAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// A payload that is not what a row says: its info hash, its length, NarSize. Another row may say what is so.
    Payload(InfoHash, u64, u64),
    /// An installed path that was changed on disk.
    StorePath(HashPart),
    /// An upstream, by its URL, for one NAR.
    Upstream(String, NarHash),
}

impl Culprit {
    pub fn payload(row: &Entry) -> Self {
        Self::Payload(row.info_hash, row.payload_length, row.nar_size)
    }
}

/// Kept until the agent restarts: then they get another chance, and are caught again if they lie again.
#[derive(Default)]
pub struct Quarantine {
    culprits: Mutex<HashSet<Culprit>>,
}

impl Quarantine {
    /// Returns whether it was not in quarantine yet.
    pub fn add(&self, culprit: Culprit) -> bool {
        self.lock().insert(culprit)
    }

    pub fn has(&self, culprit: &Culprit) -> bool {
        self.lock().contains(culprit)
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<Culprit>> {
        self.culprits.lock().unwrap_or_else(|e| e.into_inner())
    }
}
