//! What this machine can offer: rows of the catalog whose store path is installed with the row's NarHash.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard};

use tokio::sync::watch;

use crate::manifest::Row;
use crate::nix::{HashPart, NarHash};
use crate::store::Store;
use crate::torrent::InfoHash;

use super::merged::Catalog;

/// One of the places that the bytes of a payload may come from. One that is wrong says nothing of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PayloadCopy {
    /// The installed path with this hash part.
    Installed(InfoHash, HashPart),
    /// A file in the cache.
    Kept(InfoHash),
    /// A file that somebody put there.
    Held(InfoHash),
    /// A file of the channel's own: a manifest, a layer, a release file.
    Plain(InfoHash),
}

/// The one owner of the current catalog, of what is installed, and of what was withdrawn.
pub struct Offers {
    store: Option<Store>,
    /// Whether this program makes the bytes that its encoder id promises. Else nothing is re-created.
    encodes: bool,
    catalog: RwLock<Arc<Catalog>>,
    /// Sorted by hash part: 52 bytes a path, where a hash map would take 100.
    installed: RwLock<Arc<[(HashPart, NarHash)]>>,
    withdrawn: RwLock<HashSet<PayloadCopy>>,
    version: watch::Sender<u64>,
    /// Whether every followed channel has a release in the catalog.
    complete: watch::Sender<bool>,
}

impl Offers {
    pub fn new(store: Option<Store>, encodes: bool) -> Self {
        Self {
            store,
            encodes,
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

    /// Whether this program makes payloads: `payload::self_test` was passed.
    pub fn encodes(&self) -> bool {
        self.encodes
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

    pub fn is_complete(&self) -> bool {
        *self.complete.borrow()
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
        // What is installed anew is what the row says until it has shown that it is not.
        self.withdrawals().retain(|copy| self.is_there(copy));
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

    /// Whether the payload of this row can be re-created from the store; `ours` if by this program's encoder.
    pub fn can_recreate(&self, row: &Row<'_>, ours: bool) -> bool {
        let hash_part = row.hash_part();
        self.encodes
            && ours
            && self.is_installed(&hash_part, &row.nar_hash())
            && !self.is_withdrawn(&PayloadCopy::Installed(row.info_hash(), hash_part))
    }

    /// Whether the store could give this payload.
    pub fn has_installed(&self, info_hash: &InfoHash) -> bool {
        let catalog = self.catalog();
        let row = catalog.find_payload(info_hash, |row, ours| self.can_recreate(row, ours));
        row.is_some()
    }

    /// The content on disk is not what the row says: not offered again by this process, unless the path is installed anew.
    pub fn withdraw(&self, copy: PayloadCopy) {
        {
            // Locked before looking: a path that leaves now is forgotten after this.
            let mut withdrawn = self.withdrawals();
            if self.is_there(&copy) {
                withdrawn.insert(copy);
            }
        }
        self.changed();
    }

    /// Whether this copy could be offered if it was not withdrawn. Of files only their readers know.
    fn is_there(&self, copy: &PayloadCopy) -> bool {
        match copy {
            PayloadCopy::Installed(_, hash_part) => self.has(hash_part),
            PayloadCopy::Kept(_) | PayloadCopy::Held(_) | PayloadCopy::Plain(_) => true,
        }
    }

    fn withdrawals(&self) -> RwLockWriteGuard<'_, HashSet<PayloadCopy>> {
        let withdrawn = self.withdrawn.write();
        withdrawn.unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_withdrawn(&self, copy: &PayloadCopy) -> bool {
        self.withdrawn
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains(copy)
    }

    pub fn withdrawn(&self) -> u64 {
        self.withdrawn
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Release;
    use crate::manifest::{Header, Layer, NewRow, SignedManifest, assemble};
    use crate::nix::{SecretKey, StorePath};
    use crate::payload::ENCODER_ID;

    const SYSTEM: &str = "x86_64-linux";

    fn hash_part(path: u8) -> HashPart {
        HashPart::from_bytes([path; 20])
    }

    /// A release of these paths, whose NARs are all the same.
    fn release(channel: &str, paths: &[u8], payload: InfoHash) -> Release {
        let row = |path: &u8| NewRow {
            store_path: StorePath::new(hash_part(*path), "x").unwrap(),
            nar_hash: NarHash::from_bytes([7; 32]),
            nar_size: 100,
            payload_length: 50,
            info_hash: payload,
            references: vec![],
            signatures: vec![],
            ca: None,
            deriver: None,
        };
        let rows = paths.iter().map(row).collect();
        let assembled = assemble(None, ENCODER_ID, SYSTEM, rows).unwrap();
        let bytes = assembled.new_layer.unwrap();
        let layer = Layer::parse(bytes.into(), &assembled.layers[0]).unwrap();
        let header = Header {
            channel: channel.parse().unwrap(),
            release: "r1".to_owned(),
            sequence: 1,
            created: 1,
            expires: 2,
            store_dir: Default::default(),
            systems: vec![SYSTEM.to_owned()],
            layers: assembled.layers,
            files: vec![],
            trackers: vec![],
            seedboxes: vec![],
            bootstrap: vec![],
        };
        let key = SecretKey::generate("lab-1").unwrap();
        let signed = SignedManifest::sign(&header, &key).unwrap();
        let verified = signed.verify(&header.channel, &[key.public()], 0).unwrap();
        Release::new(verified, vec![Arc::new(layer)], vec![])
    }

    #[test]
    fn a_payload_is_found_under_whichever_path_is_installed() {
        let payload = InfoHash::from_bytes([9; 20]);
        let offers = Offers::new(None, true);
        // Another channel names it for a path that is not here, and so does the first row of the good one.
        offers.set_catalog(Catalog::new(vec![
            release("other", &[1], payload),
            release("good", &[2, 3, 4], payload),
        ]));
        assert!(!offers.has_installed(&payload));
        let nar_hash = NarHash::from_bytes([7; 32]);
        offers.set_installed(vec![(hash_part(3), nar_hash), (hash_part(4), nar_hash)]);
        assert!(offers.has_installed(&payload));
        // A path whose content was altered takes no other from the offer.
        offers.withdraw(PayloadCopy::Installed(payload, hash_part(3)));
        let catalog = offers.catalog();
        let found = catalog.find_payload(&payload, |row, ours| offers.can_recreate(row, ours));
        assert_eq!(found.unwrap().store_path.hash_part(), hash_part(4));
        offers.withdraw(PayloadCopy::Held(payload));
        assert!(offers.has_installed(&payload));
        offers.withdraw(PayloadCopy::Installed(payload, hash_part(4)));
        assert!(!offers.has_installed(&payload));
        assert_eq!(offers.withdrawn(), 3);
        // Nor is one withdrawn for good: it goes, and is installed anew.
        offers.set_installed(vec![(hash_part(4), nar_hash)]);
        offers.withdraw(PayloadCopy::Installed(payload, hash_part(3)));
        assert_eq!(offers.withdrawn(), 2, "one that is not there is no lie");
        offers.set_installed(vec![(hash_part(3), nar_hash), (hash_part(4), nar_hash)]);
        assert!(offers.has_installed(&payload));
    }

    #[test]
    fn a_release_that_is_gone_lists_nothing() {
        let (old, new) = (InfoHash::from_bytes([8; 20]), InfoHash::from_bytes([9; 20]));
        let catalog = Catalog::new(vec![
            release("other", &[1], new),
            release("other", &[2], old),
        ]);
        assert!(catalog.lists(&old) && catalog.lists(&new));
        let catalog = Catalog::new(vec![release("other", &[1], new)]);
        assert!(!catalog.lists(&old) && catalog.lists(&new));
    }

    /// It would fail at each path, one after the other. Nix still gets what is installed.
    #[test]
    fn a_program_with_another_zstd_recreates_nothing() {
        let payload = InfoHash::from_bytes([9; 20]);
        let nar_hash = NarHash::from_bytes([7; 32]);
        for encodes in [true, false] {
            let offers = Offers::new(None, encodes);
            offers.set_catalog(Catalog::new(vec![release("lab", &[1], payload)]));
            offers.set_installed(vec![(hash_part(1), nar_hash)]);
            assert!(offers.is_installed(&hash_part(1), &nar_hash));
            assert_eq!(offers.has_installed(&payload), encodes);
        }
    }
}
