//! What can go wrong while publishing; each names the path or file and what helps.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::catalog::InfoDictsError;
use crate::manifest::{
    AssembleError, HeaderError, LayerError, MAX_FILE_BYTES, PointerError, VerifyError,
};
use crate::nix::{NarHash, StorePath};
use crate::payload::{DescribeError, EncoderError};
use crate::store::StoreError;
use crate::torrent::TorrentError;
use crate::upstream::UpstreamError;

#[derive(Debug, Error)]
pub enum PublishError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("there is no Nix store at {0}: it has no nix/var/nix/db/db.sqlite")]
    NoStore(PathBuf),
    #[error("'{0}' is not a URL of a binary cache")]
    Url(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("{path} is not in {place}")]
    Absent { path: StorePath, place: String },
    #[error("{path}: the narinfo in {place} cannot be read: {reason}")]
    Narinfo {
        path: StorePath,
        place: String,
        reason: String,
    },
    #[error("{} have no signature: sign them (nix store sign), or give --narinfo-key: {}", count(.0), names(.0))]
    Unsigned(Vec<StorePath>),
    #[error(
        "{path} has NarHash {found}, not the {expected} that its narinfo says: not published. Repair the store"
    )]
    NarHash {
        path: StorePath,
        expected: NarHash,
        found: NarHash,
    },
    #[error("{path}: {source}")]
    Describe {
        path: StorePath,
        source: DescribeError,
    },
    #[error("this program cannot make payloads: {0}")]
    Encoder(#[from] EncoderError),
    #[error(transparent)]
    InfoDicts(#[from] InfoDictsError),
    #[error("{directory} holds releases of {of}: use another directory, or its channel and key")]
    Occupied { directory: PathBuf, of: String },
    #[error("the previous manifest in {path} is refused: {source}")]
    Previous { path: PathBuf, source: VerifyError },
    #[error("layer {number} of the previous manifest in {path} is refused: {source}")]
    PreviousLayer {
        path: PathBuf,
        number: u32,
        source: LayerError,
    },
    #[error("cannot assemble the release: {0}")]
    Assemble(#[from] AssembleError),
    #[error("the header: {0}")]
    Header(#[from] HeaderError),
    #[error("the pointer: {0}")]
    Pointer(#[from] PointerError),
    #[error("{path}: {source}")]
    Torrent { path: PathBuf, source: TorrentError },
    #[error("a worker ended before its work was done")]
    Worker,
    #[error("{0} has no name that a release file can have")]
    FileName(PathBuf),
    #[error(
        "{path} has {bytes} bytes, and a release file {} at most",
        MAX_FILE_BYTES
    )]
    FileSize { path: PathBuf, bytes: u64 },
    #[error("another publisher is writing to {0}: wait until it has ended")]
    Busy(PathBuf),
}

impl PublishError {
    /// Whether something was refused because it did not verify, as opposed to having failed.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Unsigned(_)
                | Self::NarHash { .. }
                | Self::Occupied { .. }
                | Self::Previous { .. }
                | Self::PreviousLayer { .. }
        )
    }
}

fn count(paths: &[StorePath]) -> String {
    match paths.len() {
        1 => "1 path".to_owned(),
        n => format!("{n} paths"),
    }
}

/// The first few: a store full of unsigned paths is one problem, not a thousand.
fn names(paths: &[StorePath]) -> String {
    const SHOWN: usize = 10;
    let mut text: Vec<String> = paths.iter().take(SHOWN).map(ToString::to_string).collect();
    if paths.len() > SHOWN {
        text.push(format!("and {} more", paths.len() - SHOWN));
    }
    text.join(", ")
}
