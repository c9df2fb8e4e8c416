//! Following channels: brings manifests from a directory, a URL or the swarm, verifies them, and keeps the catalog.

mod acceptance;
mod channel;
mod channels;
mod followed;
mod manifest_reader;
mod manifest_source;

pub use channel::{ChannelOptions, ChannelState, ChannelStatus, FollowError};
pub use channels::Channels;
pub use manifest_source::{ManifestSource, ManifestSourceForm};
