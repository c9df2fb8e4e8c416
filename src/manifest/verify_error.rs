//! Why a manifest file is refused, and what to do about it.

use thiserror::Error;

use crate::torrent::bencode::BencodeError;

use super::limits::MAX_MANIFEST_BYTES;
use super::{ChannelName, HeaderError};

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum VerifyError {
    #[error(
        "the manifest file has {0} bytes, at most {MAX_MANIFEST_BYTES} are allowed: it is not a manifest"
    )]
    Size(usize),
    #[error("reading the manifest file: {0}; fetch it again")]
    Bencode(#[from] BencodeError),
    #[error("the manifest's signature {0:?} is not name:base64; fetch it again")]
    SignatureText(String),
    #[error(
        "the manifest is signed by {found}, the channel's key is {expected}: \
         check the key in the configuration, or ask the publisher for the new one"
    )]
    UnknownKey { found: String, expected: String },
    #[error(
        "the manifest's signature by {0} does not fit its content: the file was changed or damaged after signing, \
         or the configured key only has the same name; fetch it again, from another source if it stays"
    )]
    BadSignature(String),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error(
        "the manifest is of channel {found}, {expected} was asked for: \
         check the channel's name and where its manifest comes from"
    )]
    WrongChannel {
        found: ChannelName,
        expected: ChannelName,
    },
    #[error(
        "the manifest of channel {channel} has sequence {found}, but {minimum} was seen already: an old release is \
         being served; ask another source, or, if the publisher did start anew, remove the channel's state"
    )]
    Rollback {
        channel: ChannelName,
        found: u64,
        minimum: u64,
    },
}
