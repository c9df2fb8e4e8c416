//! A public ed25519 key in Nix's form.
//!
//! Sample: `cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=`.
//! Source: `src/libstore/crypto.cc` in NixOS/nix.

use std::{fmt, str::FromStr};

use base64::Engine;
use ed25519_dalek::VerifyingKey;

use super::{
    ParseError, Signature,
    signature::{NIX_BASE64, parse_named},
};

const WHAT: &str = "public key";

#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    pub(super) fn new(name: String, key: VerifyingKey) -> Self {
        Self { name, key }
    }

    /// A key that came without its name, as in a channel link; `None` if it is not a point of the curve.
    pub fn unnamed(bytes: &[u8; 32]) -> Option<Self> {
        let key = VerifyingKey::from_bytes(bytes).ok()?;
        Some(Self::new(String::new(), key))
    }

    /// Empty for a key without a name.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn bytes(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    /// Whether `signature` was made over `message` by this key under this name.
    pub fn verify(&self, message: &[u8], signature: &Signature) -> bool {
        signature.key_name == self.name && self.verify_raw(message, &signature.bytes)
    }

    /// Strict, as libsodium is: malleable signatures and keys of small order fail.
    pub fn verify_raw(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        self.key.verify_strict(message, &signature).is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, bytes) = parse_named(WHAT, text)?;
        let key = VerifyingKey::from_bytes(&bytes)
            .map_err(|_| ParseError::invalid(WHAT, text, "it is not a point of the curve"))?;
        Ok(Self { name, key })
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            write!(f, "{}:", self.name)?;
        }
        f.write_str(&NIX_BASE64.encode(self.bytes()))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn round_trip() {
        let text = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
        let key: PublicKey = format!("{text}\n").parse().unwrap();
        assert_eq!(key.name(), "cache.nixos.org-1");
        assert_eq!(key.to_string(), text);
    }

    #[test]
    fn a_key_of_small_order_verifies_nothing() {
        let mut point = [0; 32];
        point[0] = 1;
        let key: PublicKey = format!("a:{}", NIX_BASE64.encode(point)).parse().unwrap();
        let mut forged = [0; 64];
        forged[0] = 1;
        assert!(!key.verify_raw(b"anything", &forged));
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<PublicKey>().unwrap_err();
        }
        case("");
        case("a:");
        case("a:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShj");
        case(&format!("a:{}", NIX_BASE64.encode([2; 32]))); // not on the curve
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>(), bytes: [u8; 32]) {
            let _ = text.parse::<PublicKey>();
            let _ = format!("a:{}", NIX_BASE64.encode(bytes)).parse::<PublicKey>();
        }
    }
}
