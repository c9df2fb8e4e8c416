//! Where the paths of a release are read from: a store on this machine, or a binary cache.

use std::io::Read;

use futures_util::stream::{StreamExt, TryStreamExt};

use crate::nix::{StoreDir, StorePath};
use crate::store::{NarReader, PathInfo, Store, StoreUri, scan};

use super::binary_cache::BinaryCache;
use super::error::PublishError;

/// Narinfos asked for at once; caches on the web are far away.
const PARALLEL_NARINFOS: usize = 16;

#[derive(Clone)]
pub enum PathSource {
    Store(Store),
    Cache(BinaryCache),
}

impl PathSource {
    pub async fn open(uri: &StoreUri) -> Result<Self, PublishError> {
        Ok(match uri {
            StoreUri::Local { root } => {
                let store = Store::open(root.as_deref())?;
                if !store.has_database() {
                    let root = root.clone().unwrap_or_else(|| "/".into());
                    return Err(PublishError::NoStore(root));
                }
                Self::Store(store)
            }
            StoreUri::File(directory) => Self::Cache(BinaryCache::directory(directory).await?),
            StoreUri::Http(url) => Self::Cache(BinaryCache::http(url).await?),
        })
    }

    pub fn store_dir(&self) -> &StoreDir {
        match self {
            Self::Store(store) => store.store_dir(),
            Self::Cache(cache) => cache.store_dir(),
        }
    }

    /// Everything that the roots need, themselves included.
    pub async fn closure(&self, roots: &[StorePath]) -> Result<Vec<PathInfo>, PublishError> {
        match self {
            Self::Store(store) => {
                let (store, roots) = (store.clone(), roots.to_vec());
                let found = tokio::task::spawn_blocking(move || store.closure(&roots)).await;
                Ok(found.map_err(|_| PublishError::Worker)??)
            }
            Self::Cache(cache) => {
                let mut found = std::collections::BTreeMap::new();
                let mut wanted: Vec<StorePath> = roots.to_vec();
                while !wanted.is_empty() {
                    let asked = futures_util::stream::iter(std::mem::take(&mut wanted))
                        .map(|path| cache.path_info(path));
                    let infos: Vec<PathInfo> = asked
                        .buffer_unordered(PARALLEL_NARINFOS)
                        .try_collect()
                        .await?;
                    let references: std::collections::BTreeSet<StorePath> = infos
                        .iter()
                        .flat_map(|info| info.references.iter().cloned())
                        .collect();
                    found.extend(
                        infos
                            .into_iter()
                            .map(|info| (info.store_path.clone(), info)),
                    );
                    wanted = references
                        .into_iter()
                        .filter(|path| !found.contains_key(path))
                        .collect();
                }
                Ok(found.into_values().collect())
            }
        }
    }

    /// The NAR of a path, for a blocking reader on a thread of its own.
    pub async fn nar(&self, path: &StorePath) -> Result<Box<dyn Read + Send>, PublishError> {
        match self {
            Self::Store(store) => {
                let real = store.real_path(path);
                let scanned = tokio::task::spawn_blocking(move || scan(&real)).await;
                Ok(Box::new(NarReader::open(
                    scanned.map_err(|_| PublishError::Worker)??,
                )))
            }
            Self::Cache(cache) => cache.nar(path).await,
        }
    }
}
