//! What was caught giving another NAR than the one asked for, per row: it is not asked for that row again.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard};

use crate::nix::{HashPart, NarHash};
use crate::torrent::InfoHash;

/// A source of one NAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// A payload that decodes to something else: whoever listed it lied.
    Payload(InfoHash),
    /// An installed path that was changed on disk.
    StorePath(HashPart),
    /// An upstream, by its URL, for one NAR.
    Upstream(String, NarHash),
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
