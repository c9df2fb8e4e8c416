//! Content addresses, and the store paths that follow from them.
//!
//! Samples: `text:sha256:BASE32`, `fixed:sha256:BASE32`, `fixed:r:sha256:BASE32`, `fixed:git:sha1:BASE32`.
//! Source: `src/libstore/content-address.cc` and `store-dir-config.cc` (`makeStorePath`) in NixOS/nix.

use std::str::FromStr;

use base64::Engine;
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use sha2::{Digest, Sha256};

use super::{HashPart, NarHash, ParseError, StoreDir, StorePath, base32, signature::NIX_BASE64};

const WHAT: &str = "content address";

/// What was hashed to get the content address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    /// The bytes of a file that may have references (`builtins.toFile`, derivations).
    Text,
    /// The bytes of a file.
    Flat,
    /// The NAR.
    Recursive,
    /// The git object.
    Git,
}

/// What was hashed, how, and to which hash.
#[derive(Debug, Clone, PartialEq, Eq)]
struct ContentAddress {
    method: Method,
    algorithm: &'static str,
    hash: Vec<u8>,
}

impl ContentAddress {
    /// The store path of this content under this name, if there can be one: not all kinds may have references.
    fn store_path(
        &self,
        store_dir: &StoreDir,
        name: &str,
        references: &[&StorePath],
        self_reference: bool,
    ) -> Option<StorePath> {
        let hash = format!("{}:{}", self.algorithm, HEXLOWER.encode(&self.hash));
        let (kind, hash) = match self.method {
            Method::Text if self_reference => return None,
            Method::Text => (with_references("text", store_dir, references), hash),
            Method::Recursive if self.algorithm == "sha256" => {
                let mut kind = with_references("source", store_dir, references);
                if self_reference {
                    kind.push_str(":self");
                }
                (kind, hash)
            }
            _ if self_reference || !references.is_empty() => return None,
            method => {
                let prefix = match method {
                    Method::Recursive => "r:",
                    Method::Git => "git:",
                    Method::Flat | Method::Text => "",
                };
                let inner = Sha256::digest(format!("fixed:out:{prefix}{hash}:"));
                let hash = format!("sha256:{}", HEXLOWER.encode(&inner));
                ("output:out".to_owned(), hash)
            }
        };
        let digest = Sha256::digest(format!("{kind}:{hash}:{store_dir}:{name}"));
        let mut part = [0; 20];
        for (i, byte) in digest.iter().enumerate() {
            part[i % part.len()] ^= byte;
        }
        StorePath::new(HashPart::from_bytes(part), name).ok()
    }
}

/// `references` ascend: they are a set in Nix.
fn with_references(kind: &str, store_dir: &StoreDir, references: &[&StorePath]) -> String {
    references.iter().fold(kind.to_owned(), |kind, path| {
        format!("{kind}:{}", path.full(store_dir))
    })
}

/// What a content address that fits its path says of the NAR.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Addressed {
    /// It is the NarHash: nobody can name another NAR for this path.
    Nar,
    /// It names the bytes of a file, a git object, or a NAR with its own path blanked out: only who has the content can
    /// check it.
    Content,
}

/// Whether `store_path` is what `ca` makes of its name and references: then Nix takes it without a signature.
pub fn verify_ca(
    store_dir: &StoreDir,
    store_path: &StorePath,
    nar_hash: &NarHash,
    references: &[StorePath],
    ca: Option<&str>,
) -> Option<Addressed> {
    let address: ContentAddress = ca?.parse().ok()?;
    let self_reference = references.contains(store_path);
    let mut others: Vec<&StorePath> = references.iter().filter(|r| *r != store_path).collect();
    others.sort_unstable();
    others.dedup();
    // With a self reference the NAR was hashed with the path's own hash part blanked out.
    let is_nar_hash =
        address.method == Method::Recursive && address.algorithm == "sha256" && !self_reference;
    if is_nar_hash && address.hash != nar_hash.as_bytes() {
        return None;
    }
    let path = address.store_path(store_dir, store_path.name(), &others, self_reference);
    let proven = match is_nar_hash {
        true => Addressed::Nar,
        false => Addressed::Content,
    };
    (path.as_ref() == Some(store_path)).then_some(proven)
}

impl FromStr for ContentAddress {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| ParseError::invalid(WHAT, text, reason);
        let (method, rest) = if let Some(rest) = text.strip_prefix("text:") {
            (Method::Text, rest)
        } else if let Some(rest) = text.strip_prefix("fixed:r:") {
            (Method::Recursive, rest)
        } else if let Some(rest) = text.strip_prefix("fixed:git:") {
            (Method::Git, rest)
        } else if let Some(rest) = text.strip_prefix("fixed:") {
            (Method::Flat, rest)
        } else {
            return Err(refuse("it starts neither with `text:` nor with `fixed:`"));
        };
        let (algorithm, digits) = rest
            .split_once(':')
            .ok_or_else(|| refuse("no hash stands in it"))?;
        let (algorithm, len) = match algorithm {
            "md5" => ("md5", 16),
            "sha1" => ("sha1", 20),
            "sha256" => ("sha256", 32),
            "sha512" => ("sha512", 64),
            _ => return Err(refuse("its hash algorithm is unknown")),
        };
        if method == Method::Text && algorithm != "sha256" {
            return Err(refuse("a text is hashed with SHA-256 only"));
        }
        let hash = if digits.len() == len * 2 {
            HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).ok()
        } else {
            base32::decode(digits, len)
                .ok()
                .or_else(|| NIX_BASE64.decode(digits).ok())
        };
        match hash {
            Some(hash) if hash.len() == len => Ok(Self {
                method,
                algorithm,
                hash,
            }),
            _ => Err(refuse("its hash is broken")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn parsed() {
        #[track_caller]
        fn case(text: &str, method: Method, algorithm: &str) {
            let address: ContentAddress = text.parse().unwrap();
            assert_eq!((address.method, address.algorithm), (method, algorithm));
        }
        let sha256 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        case(&format!("text:sha256:{sha256}"), Method::Text, "sha256");
        case(&format!("fixed:sha256:{sha256}"), Method::Flat, "sha256");
        case(
            &format!("fixed:r:sha256:{sha256}"),
            Method::Recursive,
            "sha256",
        );
        case(
            "fixed:sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            Method::Flat,
            "sha1",
        );
        case(
            "fixed:git:sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            Method::Git,
            "sha1",
        );
        case(
            "fixed:r:md5:1B2M2Y8AsgTpgAmY7PhCfg==",
            Method::Recursive,
            "md5",
        );
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<ContentAddress>().unwrap_err();
        }
        case("");
        case("text:");
        case("fixed:r:");
        case("text:sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709");
        case("fixed:sha3:da39a3ee5e6b4b0d3255bfef95601890afd80709");
        case("fixed:sha1:da39a3ee5e6b4b0d3255bfef95601890afd8070");
        case("fixed:sha1:");
        case(&format!("fixed:sha256:{}", "0".repeat(100_000)));
    }

    #[test]
    fn references_only_where_nix_allows_them() {
        let dir = StoreDir::default();
        let other = StorePath::parse_base_name("05xfwnl62nipbw1ankbcv2crjhb9a918-a").unwrap();
        let case = |text: &str, references: &[&StorePath], self_reference, possible| {
            let address: ContentAddress = text.parse().unwrap();
            let path = address.store_path(&dir, "x", references, self_reference);
            assert_eq!(path.is_some(), possible, "{text}");
        };
        let sha256 = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
        case(&format!("text:sha256:{sha256}"), &[&other], false, true);
        case(&format!("text:sha256:{sha256}"), &[], true, false);
        case(&format!("fixed:r:sha256:{sha256}"), &[&other], true, true);
        case(&format!("fixed:sha256:{sha256}"), &[], false, true);
        case(&format!("fixed:sha256:{sha256}"), &[&other], false, false);
        case(&format!("fixed:sha256:{sha256}"), &[], true, false);
        case(
            "fixed:r:sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709",
            &[&other],
            false,
            false,
        );
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = text.parse::<ContentAddress>();
            let _ = format!("fixed:r:sha256:{text}").parse::<ContentAddress>();
        }
    }
}
