//! What was caught lying: rows whose payload decodes to another NAR, and store paths whose content changed.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::{Mutex, PoisonError};

use crate::nix::HashPart;
use crate::torrent::InfoHash;

/// Kept until the agent restarts: then they get another chance, and are caught again if they lie again.
#[derive(Default)]
pub struct Quarantine {
    payloads: Mutex<HashSet<InfoHash>>,
    store_paths: Mutex<HashSet<HashPart>>,
}

impl Quarantine {
    pub fn payload(&self, info_hash: InfoHash) {
        insert(&self.payloads, info_hash);
    }

    pub fn store_path(&self, hash_part: HashPart) {
        insert(&self.store_paths, hash_part);
    }

    pub fn has_payload(&self, info_hash: &InfoHash) -> bool {
        contains(&self.payloads, info_hash)
    }

    pub fn has_store_path(&self, hash_part: &HashPart) -> bool {
        contains(&self.store_paths, hash_part)
    }
}

fn insert<T: Eq + Hash>(set: &Mutex<HashSet<T>>, item: T) {
    set.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(item);
}

fn contains<T: Eq + Hash>(set: &Mutex<HashSet<T>>, item: &T) -> bool {
    set.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .contains(item)
}
