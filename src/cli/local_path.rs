//! A store path that a person names: in the store's own terms, or as a path on disk inside a chroot store.

use std::path::Path;

use crate::nix::StorePath;
use crate::store::{NarReader, PathInfo, Store, StoreUri, scan};

use super::exit::{Failure, NOT_FOUND};

/// An installed path, found in its store's database.
pub struct LocalPath {
    pub info: PathInfo,
    store: Store,
}

impl LocalPath {
    pub fn find(path: &Path, uri: &StoreUri) -> Result<Self, Failure> {
        let StoreUri::Local { root } = uri else {
            return Err(Failure::usage(
                "--store must be a store on this machine: local, local?root=DIR or DIR",
            ));
        };
        let text = path.to_string_lossy();
        // DIR/nix/store/... names the chroot store in DIR, whatever --store says.
        let inside = text
            .split_once("/nix/store/")
            .filter(|(root, _)| !root.is_empty());
        let (root, text) = match inside {
            Some((root, name)) => (
                Some(Path::new(root).to_owned()),
                format!("/nix/store/{name}"),
            ),
            None => (root.clone(), text.into_owned()),
        };
        let place = match &root {
            Some(root) => format!("the store in {}", root.display()),
            None => "this machine's store".to_owned(),
        };
        let store = Store::open(root.as_deref()).map_err(Failure::failed)?;
        let store_path = StorePath::parse(store.store_dir(), text.trim_end_matches('/'));
        let store_path = store_path
            .map_err(|error| Failure::usage(format!("'{text}' is not a store path: {error}")))?;
        let info = store
            .path_info(&store_path.hash_part())
            .map_err(Failure::failed)?;
        let info = info.filter(|info| info.store_path == store_path);
        let info = info.ok_or_else(|| {
            Failure::new(NOT_FOUND, format!("{text} is not installed in {place}"))
        })?;
        Ok(Self { info, store })
    }

    pub fn nar(&self) -> Result<NarReader, Failure> {
        let layout = scan(&self.store.real_path(&self.info.store_path)).map_err(Failure::failed)?;
        Ok(NarReader::open(layout))
    }
}
