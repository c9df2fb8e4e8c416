//! Where a channel's manifest comes from: what `publish` wrote, as a directory, over HTTP or as a torrent.

use std::fs::File;
use std::io::Read;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use data_encoding::HEXLOWER;
use futures_util::TryStreamExt;
use thiserror::Error;
use url::Url;

use crate::manifest::{LayerEntry, MAX_LAYER_BYTES, MAX_MANIFEST_BYTES};
use crate::swarm::{DownloadError, Downloads, Expected, Fetch, Wanted};
use crate::torrent::{InfoHash, Magnet};
use crate::upstream::{Upstream, UpstreamError, UpstreamOptions};

/// From the request to the answer's head.
const HTTP_TIMEOUT: Duration = Duration::from_secs(15);

/// `DIR`, `http(s)://...` or `magnet:?xt=urn:btih:...` of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSource {
    Directory(PathBuf),
    Url(Url),
    Magnet {
        info_hash: InfoHash,
        peers: Vec<SocketAddr>,
    },
}

#[derive(Debug, Error)]
pub enum ManifestSourceError {
    #[error("'{0}' is neither a directory nor an http(s) URL nor a magnet link of a manifest")]
    Form(String),
    #[error("cannot read {path}: {source}")]
    Read {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{what} is larger than {limit} bytes")]
    TooLarge { what: String, limit: u64 },
    #[error("{0} is not there")]
    Absent(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("reading from {url}: {source}")]
    Body { url: String, source: std::io::Error },
    #[error("downloading from the swarm: {0}")]
    Download(#[from] DownloadError),
    #[error("the download of {0} ended before it was complete")]
    Incomplete(InfoHash),
}

impl FromStr for ManifestSource {
    type Err = ManifestSourceError;

    fn from_str(text: &str) -> Result<Self, ManifestSourceError> {
        let error = || ManifestSourceError::Form(text.to_owned());
        if text.starts_with("magnet:") {
            let magnet: Magnet = text.parse().map_err(|_| error())?;
            return Ok(Self::Magnet {
                info_hash: magnet.info_hash,
                peers: magnet.peers,
            });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Self::Url).map_err(|_| error());
        }
        if text.is_empty() || text.contains("://") {
            return Err(error());
        }
        Ok(Self::Directory(
            text.strip_prefix("file:").unwrap_or(text).into(),
        ))
    }
}

/// Reads the files of one source.
pub enum ManifestReader {
    Directory(PathBuf),
    Http(Arc<Upstream>),
    Swarm {
        manifest: InfoHash,
        downloads: Arc<Downloads>,
    },
}

impl ManifestReader {
    pub fn new(
        source: &ManifestSource,
        downloads: &Arc<Downloads>,
    ) -> Result<Self, ManifestSourceError> {
        Ok(match source {
            ManifestSource::Directory(path) => Self::Directory(path.clone()),
            ManifestSource::Url(url) => {
                let options = UpstreamOptions {
                    url: url.clone(),
                    keys: vec![],
                    resolve: vec![],
                    timeout: HTTP_TIMEOUT,
                    breaks: false,
                };
                Self::Http(Arc::new(Upstream::new(options)?))
            }
            ManifestSource::Magnet { info_hash, .. } => Self::Swarm {
                manifest: *info_hash,
                downloads: downloads.clone(),
            },
        })
    }

    /// The signed manifest, at most as large as any may be.
    pub async fn manifest(&self) -> Result<Bytes, ManifestSourceError> {
        let limit = MAX_MANIFEST_BYTES as u64;
        match self {
            Self::Directory(directory) => read_file(directory.join("manifest"), limit).await,
            Self::Http(upstream) => fetch(upstream, "manifest", limit).await,
            Self::Swarm {
                manifest,
                downloads,
            } => download(downloads, *manifest, Expected::AtMost(limit)).await,
        }
    }

    /// A layer that a verified header lists; its length is known, its hash is checked by whoever parses it.
    pub async fn layer(&self, entry: &LayerEntry) -> Result<Bytes, ManifestSourceError> {
        let name = format!("layers/{}", HEXLOWER.encode(&entry.sha256));
        match self {
            Self::Directory(directory) => read_file(directory.join(name), entry.length).await,
            Self::Http(upstream) => fetch(upstream, &name, entry.length).await,
            Self::Swarm { downloads, .. } => {
                download(downloads, entry.info_hash, Expected::Exactly(entry.length)).await
            }
        }
    }
}

async fn read_file(path: PathBuf, limit: u64) -> Result<Bytes, ManifestSourceError> {
    let read = tokio::task::spawn_blocking(move || {
        let mut bytes = Vec::new();
        let opened =
            File::open(&path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
        match opened {
            Err(source) => Err(ManifestSourceError::Read { path, source }),
            Ok(_) if bytes.len() as u64 > limit => Err(ManifestSourceError::TooLarge {
                what: path.display().to_string(),
                limit,
            }),
            Ok(_) => Ok(bytes.into()),
        }
    });
    let stopped = |_| ManifestSourceError::Absent("a task that was stopped".to_owned());
    read.await.map_err(stopped)?
}

async fn fetch(
    upstream: &Arc<Upstream>,
    path: &str,
    limit: u64,
) -> Result<Bytes, ManifestSourceError> {
    let url = format!("{}{path}", upstream.url());
    let mut body = upstream
        .file(path)
        .await?
        .ok_or_else(|| ManifestSourceError::Absent(url.clone()))?;
    let mut bytes = BytesMut::new();
    while let Some(chunk) =
        body.bytes
            .try_next()
            .await
            .map_err(|source| ManifestSourceError::Body {
                url: url.clone(),
                source,
            })?
    {
        if (bytes.len() + chunk.len()) as u64 > limit {
            return Err(ManifestSourceError::TooLarge { what: url, limit });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn download(
    downloads: &Arc<Downloads>,
    info_hash: InfoHash,
    length: Expected,
) -> Result<Bytes, ManifestSourceError> {
    // What an info hash names never changes: a kept file is as good as a new one.
    let download = match downloads.fetch(Wanted { info_hash, length }).await? {
        Fetch::Kept(path) => return read_file(path, MAX_LAYER_BYTES as u64).await,
        Fetch::Running(download) => download,
    };
    let part = download.part();
    let mut progress = part.progress();
    while !part.is_complete() && part.failure().is_none() {
        progress
            .changed()
            .await
            .map_err(|_| ManifestSourceError::Incomplete(info_hash))?;
    }
    if !part.is_complete() {
        return Err(ManifestSourceError::Incomplete(info_hash));
    }
    let mut bytes = BytesMut::zeroed(part.info().length as usize);
    let read = part.read_complete(0, &mut bytes);
    read.map_err(|source| ManifestSourceError::Body {
        url: info_hash.to_string(),
        source,
    })?;
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let case = |text: &str, source: ManifestSource| {
            assert_eq!(text.parse::<ManifestSource>().unwrap(), source)
        };
        case(
            "/srv/channel",
            ManifestSource::Directory("/srv/channel".into()),
        );
        case(
            "https://example.org/c",
            ManifestSource::Url("https://example.org/c".parse().unwrap()),
        );
        let magnet = format!("magnet:?xt=urn:btih:{hash}&x.pe=192.0.2.1:6881");
        let peers = vec!["192.0.2.1:6881".parse().unwrap()];
        case(
            &magnet,
            ManifestSource::Magnet {
                info_hash: hash.parse().unwrap(),
                peers,
            },
        );
        for bad in ["", "ftp://example.org/", "magnet:?dn=x"] {
            assert!(bad.parse::<ManifestSource>().is_err(), "{bad}");
        }
    }
}
