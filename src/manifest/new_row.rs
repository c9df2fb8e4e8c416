//! What a publisher knows of one store path of a release.

use crate::nix::{NarHash, Signature, StorePath};
use crate::torrent::InfoHash;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRow {
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub payload_length: u64,
    pub info_hash: InfoHash,
    /// All of them rows of the same release; the path itself may be one.
    pub references: Vec<StorePath>,
    pub signatures: Vec<Signature>,
    pub ca: Option<String>,
    pub deriver: Option<StorePath>,
}
