//! One row of the catalog with its row ids resolved: everything that a narinfo or a download needs.

use crate::manifest::ChannelName;
use crate::nix::{NarHash, Narinfo, Signature, StoreDir, StorePath, TrustedKeys};
use crate::torrent::{InfoHash, piece_length};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The channel whose manifest lists it.
    pub channel: ChannelName,
    pub store_dir: StoreDir,
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub references: Vec<StorePath>,
    pub deriver: Option<StorePath>,
    pub signatures: Vec<Signature>,
    pub ca: Option<String>,
    pub payload_length: u64,
    pub info_hash: InfoHash,
    /// Whether this program's encoder made the payload, so that it can be re-created.
    pub our_encoder: bool,
}

impl Entry {
    /// Whether Nix would accept this path.
    pub fn is_trusted(&self, keys: &TrustedKeys) -> bool {
        self.as_listed().is_trusted(keys)
    }

    /// The narinfo without a URL of any upstream: the NAR is served raw.
    pub fn narinfo(&self) -> Narinfo {
        let mut narinfo = self.as_listed().raw();
        // No signature covers it, and Nix refuses a path whose content address is another.
        if narinfo.addressed().is_none() {
            narinfo.ca = None;
        }
        narinfo
    }

    fn as_listed(&self) -> Narinfo {
        Narinfo {
            store_dir: self.store_dir.clone(),
            store_path: self.store_path.clone(),
            url: String::new(),
            compression: String::new(),
            file_hash: None,
            file_size: None,
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references.clone(),
            deriver: self.deriver.clone(),
            signatures: self.signatures.clone(),
            ca: self.ca.clone(),
        }
    }

    pub fn piece_length(&self) -> u32 {
        piece_length(self.nar_size)
    }
}
