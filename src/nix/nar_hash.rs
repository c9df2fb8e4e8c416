//! The SHA-256 of a NAR, in the spellings that Nix uses.
//!
//! Sample: `sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73` (narinfo),
//! `sha256:e3b0c442...b855` (database), `sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=` (SRI).
//! Source: `src/libutil/hash.cc` in NixOS/nix (`Hash::parseAnyPrefixed`).

use std::{fmt, str::FromStr};

use base64::Engine;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::{ParseError, base32, signature::NIX_BASE64};

const WHAT: &str = "NarHash";

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NarHash([u8; 32]);

impl NarHash {
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// 52 base-32 digits without a prefix, as in the names of payloads.
    pub fn base32(&self) -> String {
        base32::encode(&self.0)
    }

    pub fn from_base32(text: &str) -> Result<Self, ParseError> {
        Self::from_slice(base32::decode(text, 32).ok(), text)
    }

    /// 64 hexadecimal digits without a prefix.
    pub fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }

    /// `sha256-` and base 64.
    pub fn sri(&self) -> String {
        format!("sha256-{}", NIX_BASE64.encode(self.0))
    }

    fn from_slice(bytes: Option<Vec<u8>>, text: &str) -> Result<Self, ParseError> {
        bytes
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| {
                ParseError::invalid(
                    WHAT,
                    text,
                    "it is not 32 bytes in base 32, base 64 or hexadecimal",
                )
            })
    }
}

impl FromStr for NarHash {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        if let Some(base64) = text.strip_prefix("sha256-") {
            return Self::from_slice(NIX_BASE64.decode(base64).ok(), text);
        }
        let digits = text.strip_prefix("sha256:").ok_or_else(|| {
            ParseError::invalid(WHAT, text, "it does not start with `sha256:` or `sha256-`")
        })?;
        let bytes = match digits.len() {
            52 => base32::decode(digits, 32).ok(),
            64 => HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok(),
            44 => NIX_BASE64.decode(digits).ok(),
            _ => None,
        };
        Self::from_slice(bytes, text)
    }
}

impl fmt::Display for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.base32())
    }
}

impl fmt::Debug for NarHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NarHash({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn every_spelling_of_the_same_hash() {
        const BASE32: &str = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        const BASE64: &str = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=";
        let hash = NarHash::from_base32(BASE32).unwrap();
        let case = |text: String| assert_eq!(text.parse::<NarHash>().unwrap(), hash);
        case(format!("sha256:{BASE32}"));
        case(format!("sha256:{HEX}"));
        case(format!("sha256:{}", HEX.to_uppercase()));
        case(format!("sha256:{BASE64}"));
        case(format!("sha256-{BASE64}"));
        assert_eq!(hash.to_string(), format!("sha256:{BASE32}"));
        assert_eq!(hash.hex(), HEX);
        assert_eq!(hash.sri(), format!("sha256-{BASE64}"));
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<NarHash>().unwrap_err();
        }
        case("");
        case("sha256:");
        case("0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
        case("sha1:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
        case("sha256:zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz");
        case("sha256-e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        case("sha256-AAAA");
    }

    proptest! {
        #[test]
        fn round_trips(bytes: [u8; 32]) {
            let hash = NarHash::from_bytes(bytes);
            assert_eq!(hash.to_string().parse::<NarHash>().unwrap(), hash);
            assert_eq!(hash.sri().parse::<NarHash>().unwrap(), hash);
            assert_eq!(format!("sha256:{}", hash.hex()).parse::<NarHash>().unwrap(), hash);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<NarHash>();
            let _ = format!("sha256:{text}").parse::<NarHash>();
        }
    }
}
