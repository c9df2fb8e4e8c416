//! Why rows cannot be made into a release.

use thiserror::Error;

use crate::nix::StorePath;
use crate::torrent::TorrentError;

use super::LayerError;
use super::limits::{MAX_KEY_NAMES, MAX_LAYER_BYTES, MAX_LAYERS, MAX_RELEASE_BYTES, MAX_ROWS};

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AssembleError {
    #[error("the {part} {value:?} is not a short name of letters, digits and . _ + -")]
    Label { part: &'static str, value: String },
    #[error("the row of {path} is given twice")]
    Twice { path: StorePath },
    #[error("{path} refers to {reference}, which is not part of the release: add its closure")]
    Open {
        path: StorePath,
        reference: StorePath,
    },
    #[error("the {field} of {path} {reason}")]
    Row {
        path: StorePath,
        field: &'static str,
        reason: &'static str,
    },
    #[error(
        "layer {0} of the previous release is missing: fetch it, or publish without a previous release"
    )]
    MissingLayer(u32),
    #[error("the previous release cannot be continued: {0}")]
    Previous(#[from] LayerError),
    #[error(
        "a new layer would have {0} rows, at most {MAX_ROWS} are allowed: split the release into channels"
    )]
    TooManyRows(usize),
    #[error("a new layer would name {0} signing keys, at most {MAX_KEY_NAMES} are allowed")]
    TooManyKeys(usize),
    #[error(
        "a new layer would have {0} bytes, at most {MAX_LAYER_BYTES} are allowed: split the release into channels"
    )]
    TooLarge(usize),
    #[error(
        "the release would have {0} layers, at most {MAX_LAYERS} are allowed: too many systems in one channel"
    )]
    TooManyLayers(usize),
    #[error(
        "the layers of the release would have {0} bytes, at most {MAX_RELEASE_BYTES} are allowed: split it into channels"
    )]
    ReleaseTooLarge(u64),
    #[error(
        "layer numbers are used up: publish without a previous release, under a new channel name"
    )]
    NoNumber,
    #[error("describing the new layer: {0}")]
    Torrent(#[from] TorrentError),
}
