//! One torrent that this machine can serve, whatever its bytes come from. A piece leaves only with its SHA-1 checked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::watch;

use crate::catalog::{PayloadCopy, PlainFile};
use crate::nix::HashPart;
use crate::torrent::{Bitfield, InfoDict, InfoHash};

use super::copy_error::CopyError;
use super::workshop::{Workshop, blocking};
use crate::swarm::payloads::part_file::{PartFile, read_piece};

#[derive(Debug, Clone, Error)]
pub enum OfferError {
    #[error("reading {path}: {reason}")]
    Read { path: PathBuf, reason: String },
    #[error("{path} does not hold what the manifest says, and is not offered any more ({reason})")]
    Withdrawn { path: PathBuf, reason: String },
    #[error("{path} has left the offer")]
    Gone { path: PathBuf },
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
        copy: PayloadCopy,
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
        let making = self.make_piece(index);
        self.workshop.piece(self.info_hash, index, making).await
    }

    async fn make_piece(&self, index: u32) -> Result<Bytes, OfferError> {
        match &self.content {
            Content::Download(part) => {
                let part = part.clone();
                let read = blocking(move || part.piece(index)).await?;
                read.map_err(|error| self.unreadable(error.to_string()))
            }
            Content::Plain(PlainFile { path, .. }) | Content::File { path, .. } => {
                let (info, path) = (self.info().await?, path.clone());
                let read = blocking(move || read_piece(&File::open(path)?, &info, index));
                match read.await? {
                    Ok(piece) => Ok(piece.into()),
                    Err(error) => Err(self.failed(error.into()).await),
                }
            }
            Content::Installed { hash_part, .. } => {
                self.workshop.recreate_piece(self, *hash_part, index).await
            }
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

    /// Its bytes did not come.
    pub async fn failed(&self, error: CopyError) -> OfferError {
        match error {
            CopyError::Altered(reason) => self.altered(&reason).await,
            CopyError::Unreadable(reason) => self.unreadable(reason),
        }
    }

    /// The content is not what the row says. What Nix is removing, or has removed, is no lie, and it may return.
    pub async fn altered(&self, reason: &str) -> OfferError {
        match self.withdraw().await {
            Ok(true) => OfferError::Withdrawn {
                path: self.path().to_owned(),
                reason: reason.to_owned(),
            },
            Ok(false) => self.unreadable(reason.to_owned()),
            Err(error) => error,
        }
    }

    /// Returns whether there was anything to withdraw.
    async fn withdraw(&self) -> Result<bool, OfferError> {
        let path = self.path().to_owned();
        if blocking(move || path.symlink_metadata().is_err()).await? {
            return Ok(false);
        }
        let copy = match &self.content {
            Content::Installed { hash_part, .. } => {
                if !self.workshop.is_valid(*hash_part).await? {
                    return Ok(false);
                }
                PayloadCopy::Installed(self.info_hash, *hash_part)
            }
            Content::File { copy, .. } => *copy,
            Content::Plain(_) => PayloadCopy::Plain(self.info_hash),
            Content::Download(_) => return Ok(false),
        };
        self.workshop.withdraw(copy).await?;
        Ok(true)
    }

    fn unreadable(&self, reason: String) -> OfferError {
        OfferError::Read {
            path: self.path().to_owned(),
            reason,
        }
    }
}
