//! Why some bytes are not the canonical bencode that was expected.

use thiserror::Error;

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum BencodeError {
    #[error("cut off at byte {at}, inside {wanted}")]
    CutOff { at: usize, wanted: &'static str },
    #[error("byte {at} is 0x{found:02x}, {wanted} was expected")]
    Unexpected {
        at: usize,
        found: u8,
        wanted: &'static str,
    },
    #[error("the number at byte {at} is not written in its shortest form")]
    NotMinimal { at: usize },
    #[error("the number at byte {at} is larger than {max}")]
    TooLarge { at: usize, max: u64 },
    #[error("the string at byte {at} has {len} bytes, at most {max} are allowed")]
    TooLong { at: usize, len: u64, max: usize },
    #[error("the string at byte {at} has {len} bytes, {wanted} were expected")]
    TooShort {
        at: usize,
        len: usize,
        wanted: usize,
    },
    #[error("the string at byte {at} is not UTF-8")]
    NotUtf8 { at: usize },
    #[error("the list at byte {at} has more than {max} items")]
    TooMany { at: usize, max: usize },
    #[error("byte {at} has the key {found:?}, {wanted:?} was expected")]
    Key {
        at: usize,
        found: String,
        wanted: &'static str,
    },
    #[error("the key {found:?} at byte {at} does not sort after the one before it")]
    Order { at: usize, found: String },
    #[error("byte {at} is nested more than {max} levels deep")]
    TooDeep { at: usize, max: usize },
    #[error("{len} bytes follow the end of the value")]
    Trailing { len: usize },
}
