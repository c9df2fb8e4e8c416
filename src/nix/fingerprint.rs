//! The text that a narinfo's signatures sign.
//!
//! Sample: `1;/nix/store/HASH-a;sha256:BASE32;120;/nix/store/HASH-a,/nix/store/HASH-b`.
//! Source: `src/libstore/path-info.cc` in NixOS/nix (`ValidPathInfo::fingerprint`).

use super::{NarHash, StoreDir, StorePath};

/// `references` count as a set: order and repetition do not matter.
pub fn fingerprint(
    store_dir: &StoreDir,
    store_path: &StorePath,
    nar_hash: &NarHash,
    nar_size: u64,
    references: &[StorePath],
) -> String {
    let mut sorted: Vec<&StorePath> = references.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let references: Vec<String> = sorted.iter().map(|path| path.full(store_dir)).collect();
    format!(
        "1;{};{nar_hash};{nar_size};{}",
        store_path.full(store_dir),
        references.join(",")
    )
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::Value;

    use super::*;
    use crate::nix::{PublicKey, Signature};

    const VECTORS: &str = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../shared/vectors/path-info-cache.nixos.org.json"
    );

    fn path(text: &Value) -> StorePath {
        StorePath::parse(&StoreDir::default(), text.as_str().unwrap()).unwrap()
    }

    #[test]
    fn real_signatures_of_cache_nixos_org_verify() {
        let Ok(text) = fs::read_to_string(VECTORS) else {
            println!("NOT RUN: {VECTORS} is absent");
            return;
        };
        let key: PublicKey = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="
            .parse()
            .unwrap();
        let infos: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(infos.len(), 170);
        for info in &infos {
            let mut references: Vec<StorePath> = info["references"]
                .as_array()
                .unwrap()
                .iter()
                .map(path)
                .collect();
            let fingerprint_of = |references: &[StorePath]| {
                fingerprint(
                    &StoreDir::default(),
                    &path(&info["storePath"]),
                    &info["narHash"].as_str().unwrap().parse().unwrap(),
                    info["narSize"].as_u64().unwrap(),
                    references,
                )
            };
            let signed = fingerprint_of(&references);
            references.reverse();
            assert_eq!(fingerprint_of(&references), signed);
            for signature in info["signatures"].as_array().unwrap() {
                let signature: Signature = signature.as_str().unwrap().parse().unwrap();
                assert!(key.verify(signed.as_bytes(), &signature), "{signed}");
                assert!(!key.verify(&signed.as_bytes()[1..], &signature));
            }
        }
    }
}
