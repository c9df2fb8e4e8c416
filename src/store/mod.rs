//! A Nix store on this machine: what is valid in its database, and its paths as NARs. Blocking throughout.

mod cached_nar;
mod database;
mod generation;
mod nar_hash;
mod nar_reader;
mod path_info;
mod restore;
mod scan;
#[allow(
    clippy::module_inception,
    reason = "one type per file, and this one is called Store"
)]
mod store;
mod store_error;
mod store_uri;

pub use self::store::Store;
pub use cached_nar::read_cached;
pub use generation::Generation;
pub use nar_hash::nar_hash;
pub use nar_reader::NarReader;
pub use path_info::PathInfo;
pub use restore::restore;
pub use scan::scan;
pub use store_error::StoreError;
pub use store_uri::StoreUri;
