//! Why a layer is refused.

use thiserror::Error;

use crate::torrent::bencode::BencodeError;

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum LayerError {
    #[error(
        "layer {number} has {found} bytes, the manifest header says {expected}: fetch it again"
    )]
    Length {
        number: u32,
        found: u64,
        expected: u64,
    },
    #[error(
        "layer {number} has the SHA-256 {found}, the manifest header says {expected}: fetch it again"
    )]
    Digest {
        number: u32,
        found: String,
        expected: String,
    },
    #[error("reading layer {number}: {source}")]
    Bencode { number: u32, source: BencodeError },
    #[error("layer {number} has format {format}, this program reads format 1: update narswarm")]
    Format { number: u32, format: u64 },
    #[error("layer {number} says {found} for its {field}, the manifest header says {expected}")]
    Mismatch {
        number: u32,
        field: &'static str,
        found: String,
        expected: String,
    },
    #[error("the encoder {encoder:?} of layer {number} is not a name")]
    Encoder { number: u32, encoder: String },
    #[error("the key names of layer {number} {reason}")]
    KeyNames { number: u32, reason: &'static str },
    #[error("the {column} of layer {number} have {found} bytes, {expected} were expected")]
    ColumnLength {
        number: u32,
        column: &'static str,
        found: usize,
        expected: usize,
    },
    #[error("row {row} of the {column} of layer {number} {reason}")]
    Item {
        number: u32,
        column: &'static str,
        row: u32,
        reason: &'static str,
    },
    #[error("layer {number} is not the one that the manifest header lists under this number")]
    Unlisted { number: u32 },
    #[error("layer {number} refers to layer {referred}, which the manifest header does not list")]
    ForeignLayer { number: u32, referred: u32 },
    #[error("layer {number} for {system} refers to layer {referred} for {other}")]
    ForeignSystem {
        number: u32,
        system: String,
        referred: u32,
        other: String,
    },
    #[error("layer {number} refers to row {row} of layer {referred}, which has {rows} rows")]
    ForeignRow {
        number: u32,
        referred: u32,
        row: u32,
        rows: u32,
    },
}
