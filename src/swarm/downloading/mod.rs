//! What this machine gets: librqbit's engine, and what it is surrounded by.

mod companion;
mod downloads;
mod engine;
mod info_finder;
mod local_tracker;
mod metadata;
mod meter;
mod reuse;
mod sources;
mod storage;
mod wake_up;
mod way_out;
mod witness;

pub use downloads::{
    Download, DownloadError, Downloads, DownloadsParts, Expected, Fetch, Prospect, Traffic, Wanted,
};
pub use sources::Sources;
