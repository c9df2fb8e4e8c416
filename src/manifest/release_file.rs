//! A file of the release that is not a store path, such as `nixexprs.tar.xz`. It rests on the publisher's key alone.

use crate::torrent::InfoHash;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseFile {
    pub name: String,
    pub length: u64,
    pub sha256: [u8; 32],
    pub info_hash: InfoHash,
}
