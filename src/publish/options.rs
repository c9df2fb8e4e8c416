//! What to publish, and where to.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::manifest::{ChannelName, TrackerUrl};
use crate::nix::{SecretKey, StorePath};

use super::source::PathSource;

pub struct PublishOptions {
    pub channel: ChannelName,
    pub release: String,
    pub system: String,
    /// Signs header and pointer.
    pub secret_key: SecretKey,
    /// Signs paths that have no signature; without it they are refused.
    pub narinfo_key: Option<SecretKey>,
    pub source: PathSource,
    /// The release is the closure of these.
    pub roots: Vec<StorePath>,
    /// Release files such as nixexprs.tar.xz.
    pub files: Vec<PathBuf>,
    pub out: PathBuf,
    /// The directory of the predecessor; `out` itself when it has one.
    pub previous: Option<PathBuf>,
    /// Also writes every payload there, for a seedbox without a store.
    pub payloads: Option<PathBuf>,
    pub seedboxes: Vec<SocketAddr>,
    pub trackers: Vec<TrackerUrl>,
    /// DHT nodes to begin at.
    pub bootstrap: Vec<SocketAddr>,
    /// Until the release counts as stale.
    pub lifetime: Duration,
    /// Seconds since 1970.
    pub now: u64,
}
