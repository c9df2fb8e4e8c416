//! The 20 bytes that a store path's base name starts with, written as 32 base-32 digits.

use std::{fmt, str::FromStr};

use super::{ParseError, base32};

/// Ordered by its bytes, which is not the order of its text (that one is [`StorePath`](super::StorePath)'s).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashPart([u8; 20]);

impl HashPart {
    /// The length of the text.
    pub const DIGITS: usize = 32;

    pub const fn from_bytes(bytes: [u8; 20]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl FromStr for HashPart {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        base32::decode(text, 20)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                ParseError::invalid("hash part", text, "it is not 32 of Nix's base-32 digits")
            })
    }
}

impl fmt::Display for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&base32::encode(&self.0))
    }
}

impl fmt::Debug for HashPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HashPart({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let text = "05xfwnl62nipbw1ankbcv2crjhb9a918";
        let part: HashPart = text.parse().unwrap();
        assert_eq!(part.to_string(), text);
        assert_eq!(HashPart::from_bytes(*part.as_bytes()), part);
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<HashPart>().unwrap_err();
        }
        case("");
        case("05xfwnl62nipbw1ankbcv2crjhb9a91");
        case("05xfwnl62nipbw1ankbcv2crjhb9a9188");
        case("05xfwnl62nipbw1ankbcv2crjhb9a91e");
        case("05XFWNL62NIPBW1ANKBCV2CRJHB9A918");
    }
}
