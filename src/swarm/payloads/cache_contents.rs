//! What lies in the cache, as it is counted.

use std::collections::HashMap;
use std::time::SystemTime;

use super::cache_file::CacheFile;

#[derive(Debug, Clone, Copy)]
pub struct Held {
    pub bytes: u64,
    /// The time of the last change, which readers set: access times are off on many file systems.
    pub used: SystemTime,
    /// Whether somebody writes it.
    pub pinned: bool,
}

#[derive(Default)]
pub struct Contents {
    pub files: HashMap<CacheFile, Held>,
    pub total: u64,
    /// How many there were: they are numbered.
    pub spools: u64,
    /// Rises with every change.
    pub version: u64,
}

impl Contents {
    pub fn set(&mut self, name: CacheFile, held: Held) {
        self.unset(name);
        self.version += 1;
        self.total += held.bytes;
        self.files.insert(name, held);
    }

    pub fn unset(&mut self, name: CacheFile) {
        if let Some(held) = self.files.remove(&name) {
            self.version += 1;
            self.total -= held.bytes;
        }
    }
}
