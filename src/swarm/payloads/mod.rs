//! Payloads on disk: those that were downloaded, and those that still are.

mod cache_contents;
mod cache_file;
pub mod part_file;
mod payload_directory;
mod spool;

pub use part_file::PartFile;
pub use payload_directory::{NoRoom, PayloadDirectory, Room};
pub use spool::{IN_MEMORY, MEMORY, Progress, Spool};
