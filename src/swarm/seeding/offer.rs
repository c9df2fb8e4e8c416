//! One torrent that this machine can serve, whatever its bytes come from. A piece leaves only with its SHA-1 checked.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use crate::catalog::{PayloadCopy, PlainFile};
use crate::nix::HashPart;
use crate::torrent::{Bitfield, InfoDict, InfoHash};

use super::workshop::{Workshop, blocking};
use crate::swarm::payloads::part_file::{PartFile, read_piece};

#[derive(Debug, Clone, Error)]
pub enum OfferError {
    #[error("reading {path}: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error(
        "{path} does not hold what the manifest says: withdrawn until the agent restarts ({reason})"
    )]
    Withdrawn { path: PathBuf, reason: String },
    #[error("the work was abandoned because the program is stopping")]
    Stopping,
}

/// Where the bytes of an offer are.
#[derive(Clone)]
pub enum Content {
    Download(Arc<PartFile>),
    /// A manifest or another file that is no payload.
    Plain(PlainFile),
    /// A payload file; `name` is the one in its torrent.
    File {
        path: PathBuf,
        name: String,
    },
    Installed {
        hash_part: HashPart,
        path: PathBuf,
    },
}

/// A torrent to serve.
#[derive(Clone)]
pub struct Offer {
    pub workshop: Arc<Workshop>,
    pub info_hash: InfoHash,
    /// The channel that lists it; "" for a manifest or another file of its own.
    pub channel: Arc<str>,
    /// NarSize for a payload, the length for any other file.
    pub size: u64,
    pub length: u64,
    pub piece_length: u32,
    pub content: Content,
}

impl Offer {
    pub fn piece_count(&self) -> u32 {
        self.length.div_ceil(u64::from(self.piece_length)) as u32
    }

    pub fn have(&self) -> Bitfield {
        match &self.content {
            Content::Download(part) => part.have(),
            _ => Bitfield::full(self.piece_count()),
        }
    }

    /// Changes when more pieces are there; `None` when all are.
    pub fn progress(&self) -> Option<watch::Receiver<u32>> {
        match &self.content {
            Content::Download(part) => Some(part.progress()),
            _ => None,
        }
    }

    /// The info dict, if it need not be computed.
    pub async fn known_info(&self) -> Option<Arc<InfoDict>> {
        match &self.content {
            Content::Download(part) => Some(part.info().clone()),
            Content::Plain(file) => Some(file.info.clone()),
            Content::File { .. } | Content::Installed { .. } => {
                self.workshop.known_info(self.info_hash).await
            }
        }
    }

    pub async fn info(&self) -> Result<Arc<InfoDict>, OfferError> {
        match self.known_info().await {
            Some(info) => Ok(info),
            None => self.workshop.compute_info(self).await,
        }
    }

    /// A whole piece, verified.
    pub async fn piece(&self, index: u32) -> Result<Bytes, OfferError> {
        let key = (self.info_hash, index);
        let made = self
            .workshop
            .pieces
            .try_get_with(key, self.make_piece(index))
            .await;
        made.map_err(|error| (*error).clone())
    }

    async fn make_piece(&self, index: u32) -> Result<Bytes, OfferError> {
        match &self.content {
            Content::Download(part) => {
                let (part, path) = (part.clone(), self.path().to_owned());
                blocking(move || part.piece(index))
                    .await?
                    .map_err(|e| read_error(&path, &e))
            }
            Content::Plain(PlainFile { path, .. }) | Content::File { path, .. } => {
                let (info, path) = (self.info().await?, path.clone());
                let read = blocking({
                    let path = path.clone();
                    move || read_piece(&File::open(path)?, &info, index)
                });
                match read.await? {
                    Ok(piece) => Ok(piece.into()),
                    Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                        Err(self.withdraw(&error.to_string()))
                    }
                    Err(error) => Err(read_error(&path, &error)),
                }
            }
            Content::Installed { .. } => self.workshop.recreate_piece(self, index).await,
        }
    }

    pub fn path(&self) -> &Path {
        match &self.content {
            Content::Download(_) => Path::new("a running download"),
            Content::Plain(PlainFile { path, .. })
            | Content::File { path, .. }
            | Content::Installed { path, .. } => path,
        }
    }

    /// The content is not what the row says. A path that is gone altogether was collected: no lie, and it may return.
    pub fn withdraw(&self, reason: &str) -> OfferError {
        let path = self.path().to_owned();
        let reason = reason.to_owned();
        if path.symlink_metadata().is_err() {
            return OfferError::Read { path, reason };
        }
        self.workshop.withdraw(match &self.content {
            Content::Installed { hash_part, .. } => {
                PayloadCopy::Installed(self.info_hash, *hash_part)
            }
            _ => PayloadCopy::File(self.info_hash),
        });
        OfferError::Withdrawn { path, reason }
    }
}

fn read_error(path: &Path, error: &io::Error) -> OfferError {
    OfferError::Read {
        path: path.to_owned(),
        reason: error.to_string(),
    }
}
