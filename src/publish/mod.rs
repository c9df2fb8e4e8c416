//! Publishing: a release's paths in, a signed manifest with its layers and torrents out.

mod binary_cache;
mod describe;
mod error;
mod options;
mod output;
mod previous;
mod progress;
mod publisher;
mod source;

pub use error::PublishError;
pub use options::PublishOptions;
pub use progress::Progress;
pub use publisher::{Published, publish};
pub use source::PathSource;
