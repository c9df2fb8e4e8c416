//! What this machine gets: librqbit's engine, and what it is surrounded by.

mod companion;
mod download;
mod downloads;
mod engine;
mod info_finder;
mod local_tracker;
mod metadata;
mod prospects;
mod reuse;
mod sources;
mod storage;
mod wake_up;
mod wanted;
mod way_out;
mod witness;

pub use download::{Download, Fetch};
pub use downloads::{DownloadError, Downloads, DownloadsParts};
pub use prospects::{Prospect, Traffic};
pub use sources::Sources;
pub use wanted::{Expected, Wanted};
