//! Reads what `publish` wrote (manifest, pointer, layers, release files) from a directory, over HTTP or from the swarm.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::TryStreamExt;
use thiserror::Error;
use tokio::time::timeout;

use crate::manifest::{
    LayerEntry, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES, MAX_POINTER_BYTES, ReleaseFile,
};
use crate::swarm::{DownloadError, Downloads, Expected, Fetch, PartFile, Wanted};
use crate::torrent::InfoHash;
use crate::upstream::{Upstream, UpstreamError, UpstreamOptions};

use super::manifest_source::ManifestSource;

/// From the request to the answer's head.
const HTTP_TIMEOUT: Duration = Duration::from_secs(15);
/// A whole file, whose end a slow server or peer could put off for ever: this, and a second for every `SLOWEST` bytes.
const PATIENCE: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 100_000;
/// A swarm that brings no piece for so long is given up until the next attempt; what came is kept.
const SWARM_SILENCE: Duration = Duration::from_secs(60);

#[derive(Debug, Error)]
pub enum ReadError {
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("{0} is not there")]
    Absent(String),
    #[error("the program is stopping")]
    Stopping,
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("reading from {url}: {source}")]
    Body { url: String, source: std::io::Error },
    #[error("{url} is too slow: not read to its end within {patience:?}")]
    Slow { url: String, patience: Duration },
    #[error("downloading from the swarm: {0}")]
    Download(#[from] DownloadError),
    #[error("the download of {0} could not begin within {patience:?}: no peer has shown its info dict, or the cache is full", patience = PATIENCE)]
    NotBegun(InfoHash),
    #[error("the download of {0} ended before it was complete")]
    Incomplete(InfoHash),
    #[error(
        "the swarm is too slow: {info_hash} has not come within {patience:?}; it goes on from there"
    )]
    SlowSwarm {
        info_hash: InfoHash,
        patience: Duration,
    },
}

#[derive(Clone)]
pub enum ManifestReader {
    Directory(PathBuf),
    Http(Arc<Upstream>),
    Swarm {
        manifest: InfoHash,
        downloads: Arc<Downloads>,
    },
}

impl ManifestReader {
    /// `None` for a link: there is nothing to ask, the pointer comes or does not.
    pub fn new(
        source: &ManifestSource,
        downloads: &Arc<Downloads>,
    ) -> Result<Option<Self>, UpstreamError> {
        Ok(match source {
            ManifestSource::Directory(path) => Some(Self::Directory(path.clone())),
            ManifestSource::Url(url) => {
                let options = UpstreamOptions {
                    url: url.clone(),
                    keys: vec![],
                    resolve: vec![],
                    timeout: HTTP_TIMEOUT,
                    breaks: false,
                    credentials: None,
                };
                Some(Self::Http(Arc::new(Upstream::new(options)?)))
            }
            ManifestSource::Magnet { info_hash, .. } => {
                Some(Self::swarm(*info_hash, downloads.clone()))
            }
            ManifestSource::Link { .. } => None,
        })
    }

    /// The manifest with this info hash, from whoever has it.
    pub fn swarm(manifest: InfoHash, downloads: Arc<Downloads>) -> Self {
        Self::Swarm {
            manifest,
            downloads,
        }
    }

    /// The signed manifest, at most as large as any may be.
    pub async fn manifest(&self) -> Result<Bytes, ReadError> {
        let limit = MAX_MANIFEST_BYTES as u64;
        match self {
            Self::Swarm {
                manifest,
                downloads,
            } => download(downloads, *manifest, Expected::AtMost(limit)).await,
            _ => self.named("manifest", limit).await,
        }
    }

    /// The pointer that lies beside the manifest.
    pub async fn pointer(&self) -> Result<Bytes, ReadError> {
        self.named("pointer", MAX_POINTER_BYTES as u64).await
    }

    /// A layer that a verified header lists; its length is known, its hash is checked by whoever parses it.
    pub async fn layer(&self, entry: &LayerEntry) -> Result<Bytes, ReadError> {
        match self {
            Self::Swarm { downloads, .. } => {
                download(downloads, entry.info_hash, Expected::Exactly(entry.length)).await
            }
            _ => {
                let name = format!("layers/{}", HEXLOWER.encode(&entry.sha256));
                self.named(&name, entry.length).await
            }
        }
    }

    /// A release file that a verified header lists; its hash is checked by whoever keeps it.
    pub async fn file(&self, file: &ReleaseFile) -> Result<Bytes, ReadError> {
        match self {
            Self::Swarm { downloads, .. } => {
                download(downloads, file.info_hash, Expected::Exactly(file.length)).await
            }
            _ => {
                let name = format!("files/{}", file.name);
                self.named(&name, file.length).await
            }
        }
    }

    /// A file by its place in what `publish` wrote; the swarm knows no names.
    async fn named(&self, name: &str, limit: u64) -> Result<Bytes, ReadError> {
        match self {
            Self::Directory(directory) => read_file(directory.join(name), limit).await,
            Self::Http(upstream) => fetch(upstream, name, limit).await,
            Self::Swarm { .. } => Err(ReadError::Absent(name.to_owned())),
        }
    }
}

async fn read_file(path: PathBuf, limit: u64) -> Result<Bytes, ReadError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let opened =
            File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        match opened {
            Err(source) => Err(ReadError::Read { path, source }),
            Ok(_) if bytes.len() as u64 > limit => Err(ReadError::TooLarge {
                what: path.display().to_string(),
                limit,
            }),
            Ok(_) => Ok(bytes.into()),
        }
    });
    read.await.map_err(|_| ReadError::Stopping)?
}

async fn fetch(upstream: &Arc<Upstream>, path: &str, limit: u64) -> Result<Bytes, ReadError> {
    let url = format!("{}{path}", upstream.url());
    let patience = patience(limit);
    let read = timeout(patience, fetch_whole(upstream, path, &url, limit)).await;
    read.unwrap_or(Err(ReadError::Slow { url, patience }))
}

async fn fetch_whole(
    upstream: &Arc<Upstream>,
    path: &str,
    url: &str,
    limit: u64,
) -> Result<Bytes, ReadError> {
    let body = upstream.file(path).await?;
    let mut body = body.ok_or_else(|| ReadError::Absent(url.to_owned()))?.bytes;
    let mut bytes = BytesMut::new();
    let failed = |source| ReadError::Body {
        url: url.to_owned(),
        source,
    };
    while let Some(chunk) = body.try_next().await.map_err(failed)? {
        if (bytes.len() + chunk.len()) as u64 > limit {
            let what = url.to_owned();
            return Err(ReadError::TooLarge { what, limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn download(
    downloads: &Arc<Downloads>,
    info_hash: InfoHash,
    length: Expected,
) -> Result<Bytes, ReadError> {
    // What an info hash names never changes: a kept file is as good as a new one.
    let fetch = timeout(PATIENCE, downloads.fetch(Wanted { info_hash, length })).await;
    let download = match fetch.map_err(|_| ReadError::NotBegun(info_hash))?? {
        Fetch::Kept(path) => return read_file(path, MAX_LAYER_BYTES as u64).await,
        Fetch::Running(download) => download,
    };
    let part = download.part();
    let patience = patience(part.info().length);
    let whole = timeout(patience, wait_for_whole(part)).await;
    whole.map_err(|_| ReadError::SlowSwarm {
        info_hash,
        patience,
    })?;
    if !part.is_complete() {
        return Err(ReadError::Incomplete(info_hash));
    }
    let mut bytes = BytesMut::zeroed(part.info().length as usize);
    let read = part.read_complete(0, &mut bytes);
    read.map_err(|source| ReadError::Body {
        url: info_hash.to_string(),
        source,
    })?;
    Ok(bytes.freeze())
}

/// Until all of it is here, or nothing comes any more.
async fn wait_for_whole(part: &PartFile) {
    let mut progress = part.progress();
    while !part.is_complete() && part.failure().is_none() {
        let changed = timeout(SWARM_SILENCE, progress.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return;
        }
    }
}

/// How long so many bytes are waited for.
fn patience(bytes: u64) -> Duration {
    PATIENCE + Duration::from_secs(bytes / SLOWEST)
}
