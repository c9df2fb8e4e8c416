//! A secret ed25519 key, interchangeable with those of `nix-store --generate-binary-cache-key`.
//!
//! Sample: `example-1:BASE64`, where the base 64 is of 64 bytes: the seed and behind it the public key.
//! Source: `src/libstore/crypto.cc` in NixOS/nix.

use std::{fmt, str::FromStr};

use base64::Engine;
use ed25519_dalek::{Signer, SigningKey};

use super::{
    ParseError, PublicKey, Signature,
    signature::{NIX_BASE64, key_name_fault, parse_named},
};

const WHAT: &str = "secret key";

pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// Makes a new key from the system's randomness.
    pub fn generate(name: &str) -> Result<Self, ParseError> {
        if let Some(reason) = key_name_fault(name) {
            return Err(ParseError::invalid("key name", name, reason));
        }
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|_| {
            ParseError::invalid(
                "key name",
                name,
                "the system gave no random bytes for its key",
            )
        })?;
        Ok(Self {
            name: name.to_owned(),
            key: SigningKey::from_bytes(&seed),
        })
    }

    /// The text of a key file. Not `Display`, so that it is never printed by accident.
    pub fn to_key_string(&self) -> String {
        format!(
            "{}:{}",
            self.name,
            NIX_BASE64.encode(self.key.to_keypair_bytes())
        )
    }

    pub fn sign(&self, message: &[u8]) -> Signature {
        Signature {
            key_name: self.name.clone(),
            bytes: self.key.sign(message).to_bytes(),
        }
    }

    pub fn public(&self) -> PublicKey {
        PublicKey::new(self.name.clone(), self.key.verifying_key())
    }
}

impl FromStr for SecretKey {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (name, bytes) = parse_named(WHAT, text)?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| {
            ParseError::invalid(WHAT, &name, "its two halves do not belong together")
        })?;
        Ok(Self { name, key })
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}:…)", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_sign_and_verify() {
        let key = SecretKey::generate("example-1").unwrap();
        let again: SecretKey = format!(" {}\n", key.to_key_string()).parse().unwrap();
        assert_eq!(again.to_key_string(), key.to_key_string());
        assert_eq!(again.public(), key.public());
        let signature = again.sign(b"message");
        assert_eq!(signature.key_name, "example-1");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        let other = SecretKey::generate("example-1").unwrap();
        assert!(!other.public().verify(b"message", &signature));
        let renamed: PublicKey = key
            .public()
            .to_string()
            .replace("example-1", "example-2")
            .parse()
            .unwrap();
        assert!(!renamed.verify(b"message", &signature));
        assert!(renamed.verify_raw(b"message", &signature.bytes));
    }

    #[test]
    fn debug_and_errors_do_not_tell_the_key() {
        let key = SecretKey::generate("example-1").unwrap();
        let text = key.to_key_string();
        let base64 = text.strip_prefix("example-1:").unwrap();
        assert_eq!(format!("{key:?}"), "SecretKey(example-1:…)");
        #[track_caller]
        fn case(text: &str, base64: &str) {
            let message = text.parse::<SecretKey>().unwrap_err().to_string();
            assert!(!message.contains(&base64[..20]), "{message}");
        }
        case(base64, base64);
        case(&format!(":{base64}"), base64);
        case(&format!("{text}AAAA"), base64);
        case(&text[..text.len() - 8], base64);
        case(
            &text.replace(&text[text.len() - 20..], "AAAAAAAAAAAAAAAAAA=="),
            base64,
        );
    }

    #[test]
    fn names_refused() {
        #[track_caller]
        fn case(name: &str) {
            SecretKey::generate(name).unwrap_err();
        }
        case("");
        case("a:b");
        case("a b");
        case("a\n");
    }
}
