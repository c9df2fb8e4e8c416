//! Why a header is not one that this program takes.

use thiserror::Error;

use crate::torrent::bencode::BencodeError;

use super::limits::{MAX_LABEL, MAX_RELEASE_BYTES, MAX_SEQUENCE};

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum HeaderError {
    #[error("reading the manifest header: {0}")]
    Bencode(#[from] BencodeError),
    #[error("the manifest header has format {0}, this program reads format 1: update narswarm")]
    Format(u64),
    #[error(
        "the {part} {value:?} is not 1 to {MAX_LABEL} letters, digits and . _ + - (no leading dot)"
    )]
    Label { part: &'static str, value: String },
    #[error("the {part} {value:?} is listed twice in the manifest header")]
    Twice { part: &'static str, value: String },
    #[error("the manifest header's store dir {0:?} is not an absolute, normalised path")]
    StoreDir(String),
    #[error("the manifest header's sequence is {0}, not in 1..={MAX_SEQUENCE}")]
    Sequence(u64),
    #[error("the manifest header expires at {expires}, not after its creation at {created}")]
    Times { created: u64, expires: u64 },
    #[error("the tracker {0:?} is not an http, https or udp URL with a literal address")]
    Tracker(String),
    #[error("the {part} address {value:?} is not a literal address and port in its usual form")]
    Address { part: &'static str, value: String },
    #[error("release file {name:?} has {length} bytes: an empty or huge file is none")]
    FileLength { name: String, length: u64 },
    #[error("layer {number} follows layer {previous}: numbers must ascend")]
    LayerOrder { number: u32, previous: u32 },
    #[error("layer {number} has {length} bytes and {rows} rows: an empty layer is never made")]
    EmptyLayer { number: u32, length: u64, rows: u32 },
    #[error("all layers together have {0} bytes, at most {MAX_RELEASE_BYTES} are allowed")]
    LayerBytes(u64),
    #[error("layer {number} is for {system:?}, which the manifest header does not list")]
    LayerSystem { number: u32, system: String },
    #[error("the live bitmap of layer {number} {reason}")]
    Live { number: u32, reason: &'static str },
}

impl HeaderError {
    pub(super) fn label(part: &'static str, value: &str) -> Self {
        let value = value.chars().take(MAX_LABEL + 1).collect();
        Self::Label { part, value }
    }
}
