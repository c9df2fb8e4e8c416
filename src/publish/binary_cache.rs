//! A binary cache as a source: a directory as `nix copy --to file://` makes it, or the same over HTTP.

use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::TryStreamExt;
use tokio::io::BufReader;
use tokio_util::io::SyncIoBridge;
use url::Url;

use crate::nix::{CacheInfo, Narinfo, StoreDir, StorePath};
use crate::store::PathInfo;
use crate::upstream::{Upstream, UpstreamError, UpstreamOptions, decompress};

use super::error::PublishError;

/// A publisher can wait; a cache that is slow today is no reason to fail a release.
const TIMEOUT: Duration = Duration::from_secs(60);
/// A request is made so often before it has failed, with a pause between.
const ATTEMPTS: u32 = 4;
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// nix-cache-info is three lines.
const MAX_CACHE_INFO: u64 = 64 * 1024;
const MAX_NARINFO: u64 = 1 << 20;

#[derive(Clone)]
pub struct BinaryCache {
    place: Place,
    store_dir: StoreDir,
    /// Narinfos of the closure, until their NARs are read.
    narinfos: Arc<Mutex<HashMap<StorePath, Narinfo>>>,
}

#[derive(Clone)]
enum Place {
    Directory(PathBuf),
    Http(Arc<Upstream>),
}

impl BinaryCache {
    pub async fn directory(path: &Path) -> Result<Self, PublishError> {
        let info = read(path.join("nix-cache-info"), MAX_CACHE_INFO).await?;
        Ok(Self::new(Place::Directory(path.to_owned()), &info))
    }

    pub async fn http(url: &str) -> Result<Self, PublishError> {
        let url: Url = url.parse().map_err(|_| PublishError::Url(url.to_owned()))?;
        let wrong = |reason: String| UpstreamError::Request {
            url: url.to_string(),
            reason,
        };
        let options = UpstreamOptions {
            url: url.clone(),
            keys: vec![],
            resolve: vec![],
            timeout: TIMEOUT,
            breaks: false,
            credentials: None,
        };
        let upstream = Arc::new(Upstream::new(options)?);
        let mut info = Vec::new();
        if let Some(mut body) = upstream.file("nix-cache-info").await? {
            let failed = |error: std::io::Error| wrong(error.to_string());
            while let Some(chunk) = body.bytes.try_next().await.map_err(failed)? {
                info.extend_from_slice(&chunk);
                if info.len() as u64 > MAX_CACHE_INFO {
                    return Err(wrong("nix-cache-info is too large".to_owned()).into());
                }
            }
        }
        Ok(Self::new(
            Place::Http(upstream),
            &String::from_utf8_lossy(&info),
        ))
    }

    fn new(place: Place, cache_info: &str) -> Self {
        let store_dir = CacheInfo::parse(cache_info)
            .map(|info| info.store_dir)
            .unwrap_or_default();
        Self {
            place,
            store_dir,
            narinfos: Arc::default(),
        }
    }

    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    fn name(&self) -> String {
        match &self.place {
            Place::Directory(path) => path.display().to_string(),
            Place::Http(upstream) => upstream.url().to_string(),
        }
    }

    pub async fn path_info(&self, path: StorePath) -> Result<PathInfo, PublishError> {
        let narinfo = self.narinfo(&path).await?;
        self.narinfos
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path.clone(), narinfo.clone());
        Ok(PathInfo {
            store_path: path,
            nar_hash: narinfo.nar_hash,
            nar_size: narinfo.nar_size,
            references: narinfo.references,
            deriver: narinfo.deriver,
            signatures: narinfo.signatures,
            ca: narinfo.ca,
        })
    }

    async fn narinfo(&self, path: &StorePath) -> Result<Narinfo, PublishError> {
        let hash_part = path.hash_part();
        let narinfo = match &self.place {
            Place::Directory(directory) => {
                let file = directory.join(format!("{hash_part}.narinfo"));
                if !file.exists() {
                    return Err(self.absent(path));
                }
                let unreadable = |reason: String| PublishError::Narinfo {
                    path: path.clone(),
                    place: self.name(),
                    reason,
                };
                Narinfo::parse(&read(file, MAX_NARINFO).await?)
                    .map_err(|error| unreadable(error.to_string()))?
            }
            Place::Http(upstream) => retry(async || upstream.narinfo(&hash_part).await)
                .await?
                .ok_or_else(|| self.absent(path))?,
        };
        if narinfo.store_path != *path {
            let reason = format!("it is of {}", narinfo.store_path);
            return Err(PublishError::Narinfo {
                path: path.clone(),
                place: self.name(),
                reason,
            });
        }
        Ok(narinfo)
    }

    pub async fn nar(&self, path: &StorePath) -> Result<Box<dyn Read + Send>, PublishError> {
        let known = self
            .narinfos
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(path);
        let narinfo = match known {
            Some(narinfo) => narinfo,
            None => self.narinfo(path).await?,
        };
        let nar = match &self.place {
            Place::Directory(directory) => {
                let file = directory.join(&narinfo.url);
                let opened = tokio::fs::File::open(&file).await;
                let opened = opened.map_err(|source| PublishError::Io {
                    action: "open",
                    path: file,
                    source,
                })?;
                let reason = || format!("its compression '{}' is not known", narinfo.compression);
                let unknown = || PublishError::Narinfo {
                    path: path.clone(),
                    place: self.name(),
                    reason: reason(),
                };
                decompress(&narinfo.compression, BufReader::new(opened)).ok_or_else(unknown)?
            }
            Place::Http(upstream) => retry(async || upstream.nar(&narinfo).await)
                .await?
                .ok_or_else(|| self.absent(path))?,
        };
        Ok(Box::new(SyncIoBridge::new(nar)))
    }

    fn absent(&self, path: &StorePath) -> PublishError {
        PublishError::Absent {
            path: path.clone(),
            place: self.name(),
        }
    }
}

async fn retry<T>(request: impl AsyncFn() -> Result<T, UpstreamError>) -> Result<T, UpstreamError> {
    let mut attempt = 1;
    loop {
        match request().await {
            Err(error) if attempt < ATTEMPTS => {
                tracing::warn!(%error, attempt, "asking again");
                tokio::time::sleep(RETRY_PAUSE * attempt).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

async fn read(path: PathBuf, limit: u64) -> Result<String, PublishError> {
    let failed = |source| PublishError::Io {
        action: "read",
        path: path.clone(),
        source,
    };
    if tokio::fs::metadata(&path).await.map_err(failed)?.len() > limit {
        return Err(failed(std::io::Error::other(format!(
            "it is larger than {limit} bytes"
        ))));
    }
    tokio::fs::read_to_string(&path).await.map_err(failed)
}
