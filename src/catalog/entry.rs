//! One row of the catalog with its row ids resolved: everything that a narinfo or a download needs.

use crate::manifest::ChannelName;
use crate::nix::{
    Addressed, NarHash, Narinfo, Signature, StoreDir, StorePath, TrustedKeys, fingerprint,
    verify_ca,
};
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
    /// Whether Nix would accept this path: one of its signatures is by a trusted key, or its NarHash makes its name.
    pub fn is_trusted(&self, keys: &TrustedKeys) -> bool {
        let text = fingerprint(
            &self.store_dir,
            &self.store_path,
            &self.nar_hash,
            self.nar_size,
            &self.references,
        );
        keys.any_verifies(text.as_bytes(), &self.signatures)
            || self.addressed() == Some(Addressed::Nar)
    }

    /// The narinfo without a URL of any upstream: the NAR is served raw, under a name that stays true.
    pub fn narinfo(&self) -> Narinfo {
        Narinfo {
            store_dir: self.store_dir.clone(),
            store_path: self.store_path.clone(),
            url: format!(
                "nar/{}-{}.nar",
                self.store_path.hash_part(),
                self.nar_hash.base32()
            ),
            compression: "none".to_owned(),
            file_hash: None,
            file_size: None,
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            references: self.references.clone(),
            deriver: self.deriver.clone(),
            signatures: self.signatures.clone(),
            ca: self.addressed().and_then(|_| self.ca.clone()),
        }
    }

    /// No signature covers `ca`, and Nix refuses a path whose content address is another.
    fn addressed(&self) -> Option<Addressed> {
        verify_ca(
            &self.store_dir,
            &self.store_path,
            &self.nar_hash,
            &self.references,
            self.ca.as_deref(),
        )
    }

    pub fn piece_length(&self) -> u32 {
        piece_length(self.nar_size)
    }
}
