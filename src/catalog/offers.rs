//! What this machine can offer: rows of the catalog whose store path is installed with the row's NarHash.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::nix::{HashPart, NarHash};
use crate::store::Store;
use crate::torrent::InfoHash;

use super::entry::Entry;
use super::merged::Catalog;

/// The one owner of the current catalog, of what is installed, and of what was withdrawn.
pub struct Offers {
    store: Option<Store>,
    catalog: RwLock<Arc<Catalog>>,
    /// Sorted by hash part: 52 bytes a path, where a hash map would take 100.
    installed: RwLock<Arc<[(HashPart, NarHash)]>>,
    withdrawn: RwLock<HashSet<InfoHash>>,
    version: watch::Sender<u64>,
    /// Whether every followed channel has a release in the catalog.
    complete: watch::Sender<bool>,
}

impl Offers {
    pub fn new(store: Option<Store>) -> Self {
        Self {
            store,
            catalog: RwLock::default(),
            installed: RwLock::new(Arc::new([])),
            withdrawn: RwLock::default(),
            version: watch::Sender::new(0),
            complete: watch::Sender::new(true),
        }
    }

    /// Changes whenever something else may be offered than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Something else may be offered than before.
    pub fn changed(&self) {
        self.version.send_modify(|version| *version += 1);
    }

    pub fn store(&self) -> Option<&Store> {
        self.store.as_ref()
    }

    pub fn catalog(&self) -> Arc<Catalog> {
        self.catalog
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub fn set_catalog(&self, catalog: Catalog) {
        *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(catalog);
        self.changed();
    }

    /// Says whether every followed channel has a release in the catalog by now.
    pub fn set_complete(&self, complete: bool) {
        self.complete.send_replace(complete);
    }

    /// Resolves when every followed channel has a release in the catalog. Returns false when that is so already.
    pub async fn completed(&self) -> bool {
        let mut complete = self.complete.subscribe();
        if *complete.borrow_and_update() {
            return false;
        }
        // The sender lives as long as this.
        let _ = complete.wait_for(|complete| *complete).await;
        true
    }

    pub fn set_installed(&self, mut installed: Vec<(HashPart, NarHash)>) {
        installed.sort_unstable();
        *self
            .installed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = installed.into();
        self.changed();
    }

    /// Whether the store has this path with this content.
    pub fn is_installed(&self, hash_part: &HashPart, nar_hash: &NarHash) -> bool {
        let installed = self
            .installed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let found = installed.binary_search_by_key(hash_part, |(hash_part, _)| *hash_part);
        found.is_ok_and(|at| installed[at].1 == *nar_hash)
    }

    /// Whether the store has this path, with whatever content.
    pub fn has(&self, hash_part: &HashPart) -> bool {
        let installed = self
            .installed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let found = installed.binary_search_by_key(hash_part, |(hash_part, _)| *hash_part);
        found.is_ok()
    }

    /// The row of a payload that can be re-created from the store.
    pub fn installed_payload(&self, info_hash: &InfoHash) -> Option<Entry> {
        if self.is_withdrawn(info_hash) {
            return None;
        }
        let entry = self.catalog().find_payload(info_hash)?;
        (entry.our_encoder && self.is_installed(&entry.store_path.hash_part(), &entry.nar_hash))
            .then_some(entry)
    }

    /// The content on disk is not what the row says: never offered again by this process.
    pub fn withdraw(&self, info_hash: InfoHash) {
        self.withdrawn
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(info_hash);
        self.changed();
    }

    pub fn is_withdrawn(&self, info_hash: &InfoHash) -> bool {
        self.withdrawn
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(info_hash)
    }

    pub fn withdrawn(&self) -> u64 {
        self.withdrawn
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }
}
