//! One signature as narinfos and Nix's database carry it.
//!
//! Sample: `cache.nixos.org-1:n3t9NmyHC95jDl2ZTIuw1bFm4epUOJ92uNNqcqNoUsMRQtQKog3AFiMXrsZ+wTeX1krPYdhph26onbIq/McNDQ==`.
//! Source: `src/libstore/crypto.cc` in NixOS/nix.

use std::{fmt, str::FromStr};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::ParseError;

/// Nix writes padding and reads without it, and does not look at bits beyond the last byte.
pub(super) const NIX_BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Far beyond any real name; it keeps error messages and manifests small.
const MAX_KEY_NAME_BYTES: usize = 255;

#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Signature {
    pub key_name: String,
    pub bytes: [u8; 64],
}

impl FromStr for Signature {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (key_name, bytes) = parse_named("signature", text)?;
        Ok(Self { key_name, bytes })
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key_name, NIX_BASE64.encode(self.bytes))
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({self})")
    }
}

/// Parses `name:base64`, the form of signatures and of both kinds of keys; white space around it is dropped.
/// The value stays out of the message: it may be a secret key.
pub(super) fn parse_named<const N: usize>(
    what: &'static str,
    text: &str,
) -> Result<(String, [u8; N]), ParseError> {
    let text = text.trim();
    let (name, base64) = text
        .split_once(':')
        .ok_or_else(|| ParseError::invalid(what, "…", "it is not `name:base64`"))?;
    if let Some(reason) = key_name_fault(name) {
        return Err(ParseError::invalid(what, name, reason));
    }
    let refuse = |reason| ParseError::invalid(what, &format!("{name}:…"), reason);
    // Bounded before decoding: four digits per three bytes.
    if base64.len() > N.div_ceil(3) * 4 {
        return Err(refuse("its base 64 is too long"));
    }
    let bytes = NIX_BASE64
        .decode(base64)
        .map_err(|_| refuse("its base 64 is broken"))?;
    let bytes = bytes
        .try_into()
        .map_err(|_| refuse("its length is wrong"))?;
    Ok((name.to_owned(), bytes))
}

pub(super) fn key_name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("the key name is empty");
    }
    if name.len() > MAX_KEY_NAME_BYTES {
        return Some("the key name is longer than 255 bytes");
    }
    name.chars()
        .any(|c| c == ':' || c.is_whitespace() || c.is_control())
        .then_some("the key name contains a colon, white space or a control character")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<Signature>().unwrap_err();
        }
        let base64 = NIX_BASE64.encode([7; 64]);
        case("");
        case(&base64);
        case(&format!(":{base64}"));
        case(&format!("a b:{base64}"));
        case(&format!("{}:{base64}", "x".repeat(256)));
        case("a:");
        case("a:AAAA");
        case(&format!("a:{base64}AAAA"));
        case(&format!("a:b:{base64}"));
        case(&format!("a:{}", "A".repeat(1_000_000)));
    }

    #[test]
    fn padding_may_be_left_out() {
        let signature: Signature =
            format!("a:{}", NIX_BASE64.encode([7; 64]).trim_end_matches('='))
                .parse()
                .unwrap();
        assert_eq!(signature.bytes, [7; 64]);
    }

    proptest! {
        #[test]
        fn round_trip(key_name in "[!-9;-~]{1,40}", bytes in proptest::array::uniform32(any::<u8>())) {
            let mut both = [0; 64];
            both[..32].copy_from_slice(&bytes);
            let signature = Signature { key_name, bytes: both };
            assert_eq!(signature.to_string().parse::<Signature>().unwrap(), signature);
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<Signature>();
        }
    }
}
