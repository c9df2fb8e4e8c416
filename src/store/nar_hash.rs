//! The NarHash of what lies on disk.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{NarReader, StoreError};
use crate::nix::{NarHash, nar::Layout};

/// Large enough that the calls cost nothing, small enough for a core's own cache.
const BUFFER_BYTES: usize = 256 * 1024;

pub fn nar_hash(layout: impl Into<Arc<Layout>>) -> Result<NarHash, StoreError> {
    let mut reader = NarReader::open(layout);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hasher = Sha256::new();
    let mut offset = 0;
    loop {
        let length = reader.read_at(offset, &mut buffer)?;
        if length == 0 {
            return Ok(NarHash::from_bytes(hasher.finalize().into()));
        }
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
}
