//! A manifest whose signature, channel and sequence were checked. Only `SignedManifest::verify` makes one.

use bytes::Bytes;

use crate::torrent::{InfoDict, TorrentError};

use super::Header;
use super::signed_manifest::info_dict;

#[derive(Debug, Clone)]
pub struct VerifiedManifest {
    header: Header,
    encoded: Bytes,
}

/// Whether a release is still within its time. Stale is shown, never a refusal: a dead publisher or a wrong clock
/// must not take packages away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Freshness {
    Fresh,
    Stale,
}

impl VerifiedManifest {
    pub(super) fn new(header: Header, encoded: Bytes) -> Self {
        Self { header, encoded }
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn freshness(&self, now_unix: u64) -> Freshness {
        match now_unix >= self.header.expires {
            true => Freshness::Stale,
            false => Freshness::Fresh,
        }
    }

    /// The torrent of the signed file: what a pointer points to.
    pub fn info_dict(&self) -> Result<InfoDict, TorrentError> {
        info_dict(&self.encoded)
    }

    /// The signed file, to keep and to pass on.
    pub fn encoded(&self) -> &Bytes {
        &self.encoded
    }
}
