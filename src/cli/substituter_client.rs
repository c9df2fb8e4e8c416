//! A small substituter client, for machines without Nix: narinfos checked as Nix checks them, NARs against NarHash.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::TryStreamExt;
use reqwest::{Client, StatusCode};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::nix::{HashPart, Narinfo, StorePath, TrustedKeys, nar::Limits};
use crate::store::{StoreError, restore};

/// It is on this machine: it answers at once, or is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// As long as Nix waits for the next byte (`stalled-download-timeout`).
const SILENCE: Duration = Duration::from_secs(300);

#[derive(Debug, Error)]
pub enum ClientError {
    #[error("asking {url}: {source}")]
    Request { url: String, source: reqwest::Error },
    #[error("{url} answered {status}")]
    Status { url: String, status: StatusCode },
    #[error(
        "{0} is not given by the agent: no upstream has it, and no manifest lists it with a signature by one of its \
         trusted_keys (`narswarm status` shows channels and upstreams with their troubles)"
    )]
    NotFound(String),
    #[error("{0} is listed, but nobody who answers has its NAR")]
    NoNar(StorePath),
    #[error("the narinfo of {0} cannot be read: {1}")]
    Narinfo(String, String),
    #[error("{0} has no signature by a trusted key: add its key to trusted_keys")]
    Untrusted(StorePath),
    #[error("the NAR of {0} does not have the NarHash of its narinfo")]
    NarHash(StorePath),
    #[error("cannot write {path}: {source}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot unpack {path}: {source}")]
    Unpack { path: PathBuf, source: StoreError },
}

pub struct SubstituterClient {
    client: Client,
    base: String,
    keys: TrustedKeys,
}

impl SubstituterClient {
    pub fn new(shim: SocketAddr, keys: TrustedKeys) -> Self {
        // The shim is on this machine: a proxy for the web must not see it.
        let client = Client::builder()
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(SILENCE);
        let client = client.build().unwrap_or_default();
        Self {
            client,
            base: format!("http://{shim}"),
            keys,
        }
    }

    /// A narinfo that Nix would accept.
    pub async fn narinfo(&self, hash_part: &HashPart) -> Result<Narinfo, ClientError> {
        let name = hash_part.to_string();
        let url = format!("{}/{name}.narinfo", self.base);
        let response = self
            .get(&url)
            .await?
            .ok_or_else(|| ClientError::NotFound(name.clone()))?;
        let text = response
            .text()
            .await
            .map_err(|source| ClientError::Request { url, source })?;
        let narinfo =
            Narinfo::parse(&text).map_err(|error| ClientError::Narinfo(name, error.to_string()))?;
        if narinfo.is_trusted(&self.keys) {
            Ok(narinfo)
        } else {
            Err(ClientError::Untrusted(narinfo.store_path))
        }
    }

    /// Fetches a NAR to a file that appears only when its hash was right.
    pub async fn nar_file(&self, narinfo: &Narinfo, to: &Path) -> Result<(), ClientError> {
        let file = self
            .nar(narinfo, to.parent().unwrap_or(Path::new(".")))
            .await?;
        let failed = |source| ClientError::Write {
            path: to.to_owned(),
            source,
        };
        file.persist(to)
            .map_err(|error| failed(error.error))
            .map(|_| ())
    }

    /// Fetches a NAR and unpacks it.
    pub async fn unpack(&self, narinfo: &Narinfo, to: &Path) -> Result<(), ClientError> {
        let file = self
            .nar(narinfo, to.parent().unwrap_or(Path::new(".")))
            .await?;
        let to = to.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || {
            let failed = |source| ClientError::Write {
                path: to.clone(),
                source,
            };
            let nar = file.reopen().map_err(failed)?;
            restore(io::BufReader::new(nar), &to, &Limits::default()).map_err(|source| {
                ClientError::Unpack {
                    path: to.clone(),
                    source,
                }
            })
        });
        unpacked.await.unwrap_or_else(|error| {
            Err(ClientError::Write {
                path: PathBuf::from("the NAR"),
                source: io::Error::other(error),
            })
        })
    }

    async fn nar(
        &self,
        narinfo: &Narinfo,
        directory: &Path,
    ) -> Result<tempfile::NamedTempFile, ClientError> {
        let failed = |source| ClientError::Write {
            path: directory.to_owned(),
            source,
        };
        let mut file = tempfile::Builder::new()
            .prefix(".nar-")
            .tempfile_in(directory)
            .map_err(failed)?;
        let url = format!("{}/{}", self.base, narinfo.url);
        let response = self
            .get(&url)
            .await?
            .ok_or_else(|| ClientError::NoNar(narinfo.store_path.clone()))?;
        let mut hasher = Sha256::new();
        let mut body = response.bytes_stream();
        while let Some(chunk) = body
            .try_next()
            .await
            .map_err(|source| ClientError::Request {
                url: url.clone(),
                source,
            })?
        {
            hasher.update(&chunk);
            file.write_all(&chunk).map_err(failed)?;
        }
        if hasher.finalize()[..] != narinfo.nar_hash.as_bytes()[..] {
            return Err(ClientError::NarHash(narinfo.store_path.clone()));
        }
        Ok(file)
    }

    async fn get(&self, url: &str) -> Result<Option<reqwest::Response>, ClientError> {
        let response = self.client.get(url).send().await;
        let response = response.map_err(|source| ClientError::Request {
            url: url.to_owned(),
            source,
        })?;
        match response.status() {
            StatusCode::OK => Ok(Some(response)),
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(ClientError::Status {
                url: url.to_owned(),
                status,
            }),
        }
    }
}
