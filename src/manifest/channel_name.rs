//! A channel's name: the salt under which its pointer is published, and a file name in the state directory.

use std::fmt;
use std::str::FromStr;

use sha1::{Digest as _, Sha1};

use crate::torrent::InfoHash;

use super::HeaderError;
use super::limits::is_label;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelName(String);

impl ChannelName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Where the channel of this name and key meets: SHA-1 of key and name, as BEP 44 places a mutable item.
    pub fn topic(&self, key: &[u8; 32]) -> InfoHash {
        let digest = Sha1::new().chain_update(key).chain_update(&self.0);
        InfoHash::from_bytes(digest.finalize().into())
    }
}

impl FromStr for ChannelName {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        if is_label(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(HeaderError::label("channel name", text))
    }
}

impl fmt::Display for ChannelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        fn case(name: &str, good: bool) {
            assert_eq!(name.parse::<ChannelName>().is_ok(), good, "{name:?}");
        }
        case("nixos-unstable", true);
        case("nixos-24.05", true);
        case(&"a".repeat(64), true);
        case(&"a".repeat(65), false);
        case("", false);
        case("..", false);
        case(".hidden", false);
        case("a/b", false);
        case("a b", false);
        case("ä", false);
    }
}
