//! An info hash: the SHA-1 of an info dict, the name of a torrent.

use std::fmt;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha1::{Digest as _, Sha1};

use super::TorrentError;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InfoHash([u8; 20]);

impl InfoHash {
    /// The info hash of these info dict bytes.
    pub fn of(info_dict: &[u8]) -> Self {
        Self(Sha1::digest(info_dict).into())
    }

    pub fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for InfoHash {
    type Err = TorrentError;

    fn from_str(text: &str) -> Result<Self, TorrentError> {
        let bytes = HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        let error = || TorrentError::InfoHash(text.chars().take(64).collect());
        bytes.map(Self).ok_or_else(error)
    }
}

impl fmt::Display for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for InfoHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "InfoHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal() {
        fn case(input: &str, expected: Option<&str>) {
            let found = input.parse::<InfoHash>().ok().map(|hash| hash.to_string());
            assert_eq!(found.as_deref(), expected, "{input}");
        }
        let hash = "da39a3ee5e6b4b0d3255bfef95601890afd80709";
        case(hash, Some(hash));
        case(&hash.to_uppercase(), Some(hash));
        case(&hash[1..], None);
        case(&hash[2..], None);
        case(&format!("{hash}00"), None);
        case("zz39a3ee5e6b4b0d3255bfef95601890afd80709", None);
        case("", None);
        assert_eq!(InfoHash::of(b"").to_string(), hash);
    }
}
