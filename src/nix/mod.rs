//! The types and formats of Nix: pure, no I/O.

pub mod base32;
mod cache_info;
mod content_address;
mod fingerprint;
mod hash_part;
pub mod nar;
mod nar_hash;
mod narinfo;
mod parse_error;
mod public_key;
mod raw_nar;
mod secret_key;
mod signature;
mod store_dir;
mod store_path;
mod trusted_keys;

pub use cache_info::CacheInfo;
pub use content_address::{Addressed, verify_ca};
pub use fingerprint::fingerprint;
pub use hash_part::HashPart;
pub use nar_hash::NarHash;
pub use narinfo::Narinfo;
pub use parse_error::ParseError;
pub use public_key::PublicKey;
pub use raw_nar::{parse_raw_nar, raw_nar_url};
pub use secret_key::SecretKey;
pub use signature::Signature;
pub use store_dir::StoreDir;
pub use store_path::StorePath;
pub use trusted_keys::TrustedKeys;
