//! The public keys whose signatures a machine believes.

use std::collections::HashMap;

use super::{PublicKey, Signature};

/// One key per name; of several the first counts, as in Nix.
#[derive(Debug, Clone, Default)]
pub struct TrustedKeys(HashMap<String, PublicKey>);

impl TrustedKeys {
    pub fn get(&self, name: &str) -> Option<&PublicKey> {
        self.0.get(name)
    }

    pub fn any_verifies(&self, message: &[u8], signatures: &[Signature]) -> bool {
        signatures.iter().any(|signature| {
            self.get(&signature.key_name)
                .is_some_and(|key| key.verify(message, signature))
        })
    }
}

impl FromIterator<PublicKey> for TrustedKeys {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(keys: I) -> Self {
        let mut by_name = HashMap::new();
        for key in keys {
            by_name.entry(key.name().to_owned()).or_insert(key);
        }
        Self(by_name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::SecretKey;

    #[test]
    fn one_good_signature_is_enough() {
        let [a, b, stranger] = ["a", "b", "c"].map(|name| SecretKey::generate(name).unwrap());
        let trusted: TrustedKeys = [a.public(), b.public()].into_iter().collect();
        let case = |signatures: &[Signature], good| {
            assert_eq!(trusted.any_verifies(b"x", signatures), good);
        };
        case(&[], false);
        case(&[a.sign(b"x")], true);
        case(&[stranger.sign(b"x")], false);
        case(&[stranger.sign(b"x"), a.sign(b"y"), b.sign(b"x")], true);
        case(&[a.sign(b"y")], false);
        let stolen_name = Signature {
            key_name: "a".to_owned(),
            ..stranger.sign(b"x")
        };
        case(&[stolen_name], false);
        assert!(trusted.get("a").is_some() && trusted.get("c").is_none());
    }

    #[test]
    fn the_first_key_of_a_name_counts() {
        let [first, second] = ["a", "a"].map(|name| SecretKey::generate(name).unwrap());
        let trusted: TrustedKeys = [first.public(), second.public()].into_iter().collect();
        assert_eq!(trusted.get("a"), Some(&first.public()));
    }
}
