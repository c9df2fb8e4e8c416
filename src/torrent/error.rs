//! Why something is not a torrent, a link or an info hash that this program uses.

use thiserror::Error;

use super::bencode::BencodeError;
use super::info_dict::{MAX_INFO_DICT, MAX_LENGTH, MAX_METAINFO};

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum TorrentError {
    #[error("reading an info hash: {0:?} is not 40 hexadecimal digits")]
    InfoHash(String),
    #[error("reading the {part}: {source}")]
    Bencode {
        part: &'static str,
        source: BencodeError,
    },
    #[error("the info dict has {0} bytes, at most {MAX_INFO_DICT} are allowed")]
    InfoDictSize(usize),
    #[error("the torrent file has {0} bytes, at most {MAX_METAINFO} are allowed")]
    MetainfoSize(usize),
    #[error("the torrent file has no info dict")]
    NoInfoDict,
    #[error("the info dict's name {name:?} {reason}")]
    Name { name: String, reason: &'static str },
    #[error("the info dict's length is {0}, not in 1..={MAX_LENGTH}")]
    Length(u64),
    #[error("the info dict's piece length is {0}, not a power of two from 16 KiB to 16 MiB")]
    PieceLength(u64),
    #[error("the info dict's pieces have {0} bytes, not a multiple of 20")]
    PieceBytes(usize),
    #[error("the info dict has {found} pieces, its length needs {expected}")]
    PieceCount { found: u64, expected: u64 },
    #[error("the info dict's frames have {0} bytes, not a multiple of 4")]
    FrameBytes(usize),
    #[error("frame {0} of the info dict has no bytes")]
    EmptyFrame(usize),
    #[error("the info dict's frames add up to {found} bytes, its length is {expected}")]
    FrameSum { found: u64, expected: u64 },
    #[error("reading a link: {0:?} does not begin with magnet:?")]
    NotMagnet(String),
    #[error("reading a link: it has {0} bytes, at most {1} are allowed")]
    LinkSize(usize, usize),
    #[error("reading a link: {name} is given more than {max} times")]
    LinkRepeats { name: &'static str, max: usize },
    #[error("reading a link: {name}={value:?} is not {wanted}")]
    LinkValue {
        name: &'static str,
        value: String,
        wanted: &'static str,
    },
    #[error("reading a link: it has no {name}={wanted}")]
    LinkMissing {
        name: &'static str,
        wanted: &'static str,
    },
}

impl TorrentError {
    /// For `map_err`: names the part that was being read.
    pub(super) fn reading(part: &'static str) -> impl Fn(BencodeError) -> Self {
        move |source| Self::Bencode { part, source }
    }
}
