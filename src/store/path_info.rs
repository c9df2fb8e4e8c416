//! What Nix's database knows about a valid path.

use crate::nix::{NarHash, Signature, StorePath};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathInfo {
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    /// 0 where Nix never noted it (paths registered by very old versions).
    pub nar_size: u64,
    /// Ascending and each once.
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<Signature>,
    pub ca: Option<String>,
}
