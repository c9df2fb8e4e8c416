//! Every bound of the manifest formats. Nothing that a file only claims is allocated beyond these.

/// Rows of one layer: several times all that one system of nixpkgs builds.
pub const MAX_ROWS: u32 = 1 << 20;
/// A layer of `MAX_ROWS` rows of the usual size (below 230 bytes each).
pub const MAX_LAYER_BYTES: usize = 256 * 1024 * 1024;
/// Layers of one header: half a year of weekly releases of two systems; more is slow to fetch afresh.
pub const MAX_LAYERS: usize = 64;
/// All layers of one header: they are kept in memory, and nixpkgs for four systems has a fifth of it.
pub const MAX_RELEASE_BYTES: u64 = 512 * 1024 * 1024;
/// A header: the live bitmaps of `MAX_LAYERS` layers of `MAX_ROWS` rows have 8 MiB.
pub const MAX_HEADER_BYTES: usize = 9 * 1024 * 1024;
/// The signed file: a header and its signatures.
pub const MAX_MANIFEST_BYTES: usize = MAX_HEADER_BYTES + 16 * 1024;
/// Signatures of one manifest or one row: a handful exist anywhere.
pub const MAX_SIGNATURES: usize = 16;
/// `name:base64` of one signature; names are short, the signature has 88 characters.
pub const MAX_SIGNATURE_TEXT: usize = 384;
/// Signing keys of all rows of one layer.
pub const MAX_KEY_NAMES: usize = 256;
/// The name of a key: its length as the parser of keys bounds it.
pub const MAX_KEY_NAME: usize = 255;
/// Systems of one channel; Nix knows fewer.
pub const MAX_SYSTEMS: usize = 16;
/// Files of one release beside the store paths.
pub const MAX_FILES: usize = 64;
/// One of them: it is read whole, and nixexprs.tar.xz has 30 MB.
pub const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// Trackers, seedboxes or bootstrap addresses in one header.
pub const MAX_ADDRESSES: usize = 64;
/// A tracker's URL.
pub const MAX_TRACKER_URL: usize = 256;
/// A system, encoder, release or channel name; the channel's is BEP 44's limit on a salt.
pub const MAX_LABEL: usize = 64;
/// The base name of a store dir is bounded by its own parser; this bounds what reaches it.
pub const MAX_STORE_DIR: usize = 255;
/// A content address: the longest, `fixed:r:sha512:` with base-32, has 118 bytes; a length byte must do.
pub const MAX_CA: usize = 255;
/// An uncompressed NAR: sums of sizes stay far from overflow.
pub const MAX_NAR_SIZE: u64 = 1 << 40;
/// BEP 44 sequence numbers are signed 64-bit.
pub const MAX_SEQUENCE: u64 = i64::MAX as u64;

/// Whether a name is safe as a file name, in a URL and on a terminal.
pub fn is_label(text: &str) -> bool {
    let byte = |byte: u8| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte);
    (1..=MAX_LABEL).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(byte)
}
