//! Why a pointer is refused.

use thiserror::Error;

use crate::torrent::bencode::BencodeError;

use super::ChannelName;

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PointerError {
    #[error("the pointer has {0} bytes, more than a BEP 44 item may have")]
    Size(usize),
    #[error("reading the pointer: {0}")]
    Bencode(#[from] BencodeError),
    #[error("the pointer's salt is not a channel name")]
    Salt,
    #[error("the pointer's sequence is {0}, sequences start at 1")]
    Sequence(i64),
    #[error("the pointer's signature does not fit its content: it was changed after signing")]
    BadSignature,
    #[error(
        "the pointer is signed by the key {found}, which is not one of the channel's: \
         check the key in the configuration, or ask the publisher for the new one"
    )]
    UnknownKey { found: String },
    #[error(
        "the pointer is of channel {found}, {expected} was asked for: check the channel's name"
    )]
    WrongChannel {
        found: ChannelName,
        expected: ChannelName,
    },
    #[error(
        "the pointer of channel {channel} has sequence {found}, but {minimum} was seen already: an old one is being \
         served; a newer one will replace it"
    )]
    Rollback {
        channel: ChannelName,
        found: u64,
        minimum: u64,
    },
}
