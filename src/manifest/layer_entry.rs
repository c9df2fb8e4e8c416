//! What a header says of one layer: enough to fetch it, check it and know its live rows.

use sha2::{Digest as _, Sha256};

use crate::torrent::{InfoDict, InfoHash, TorrentError};

use super::LiveRows;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerEntry {
    /// Ascending in a header, never used twice by a channel.
    pub number: u32,
    pub system: String,
    pub rows: u32,
    pub live: LiveRows,
    pub length: u64,
    pub sha256: [u8; 32],
    pub info_hash: InfoHash,
}

impl LayerEntry {
    /// Describes a new layer, every row of it live.
    pub(super) fn of_new(
        number: u32,
        system: &str,
        rows: u32,
        encoded: &[u8],
    ) -> Result<Self, TorrentError> {
        Ok(Self {
            number,
            system: system.to_owned(),
            rows,
            live: LiveRows::All,
            length: encoded.len() as u64,
            sha256: Sha256::digest(encoded).into(),
            info_hash: info_dict(number, system, encoded)?.info_hash(),
        })
    }

    /// The torrent of this layer, given its bytes.
    pub fn info_dict(&self, encoded: &[u8]) -> Result<InfoDict, TorrentError> {
        info_dict(self.number, &self.system, encoded)
    }

    /// The name in that torrent: a function of what the layer is, so that every publisher's torrent of it is the same.
    pub fn torrent_name(&self) -> String {
        torrent_name(self.number, &self.system)
    }

    pub fn is_live(&self, row: u32) -> bool {
        row < self.rows && self.live.is_live(row)
    }

    pub fn live_count(&self) -> u32 {
        self.live.count(self.rows)
    }
}

fn torrent_name(number: u32, system: &str) -> String {
    format!("layer-{number}-{system}")
}

fn info_dict(number: u32, system: &str, encoded: &[u8]) -> Result<InfoDict, TorrentError> {
    InfoDict::of_file(&torrent_name(number, system), encoded)
}
