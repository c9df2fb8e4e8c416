//! What the configuration says of the swarm, and what of it a running one cannot take over.

use std::net::SocketAddr;
use std::path::PathBuf;

use url::Url;

use super::discovery::DiscoveryOptions;
use super::seeding::{Recreation, UploadLimits};
use super::share::{Network, Share};

/// What the configuration says of the swarm.
#[derive(Debug, Clone)]
pub struct SwarmOptions {
    pub listen: SocketAddr,
    pub share: Share,
    pub networks: Vec<Network>,
    pub upload_limits: UploadLimits,
    /// Connections that are served at a time.
    pub upload_slots: usize,
    pub recreation: Recreation,
    /// Connections of peers in all; topic connections have their own limit.
    pub connections: usize,
    pub peers: Vec<SocketAddr>,
    pub trackers: Vec<Url>,
    pub discovery: DiscoveryOptions,
    /// Topic connections of each channel at most.
    pub neighbours: usize,
    /// Whether this is a seedbox, as the neighbours are told.
    pub seedbox: bool,
    /// Where pointers and DHT nodes are kept.
    pub state: PathBuf,
    pub cache: PathBuf,
    pub cache_size: u64,
    /// A directory of payload files to serve, named after their NarHash.
    pub hold: Option<PathBuf>,
}

impl SwarmOptions {
    /// The same with the `share` that was chosen instead, if any.
    pub fn chosen(self, share: Option<Share>) -> Self {
        Self {
            share: share.unwrap_or(self.share),
            ..self
        }
    }

    /// The keys in which `new` differs from what the swarm was started with, and that only a restart can change.
    pub fn needing_restart(&self, new: &Self) -> Vec<&'static str> {
        [
            ("swarm.listen", self.listen != new.listen),
            ("swarm.dht", self.discovery.dht != new.discovery.dht),
            (
                "swarm.bootstrap",
                self.discovery.bootstrap != new.discovery.bootstrap,
            ),
            ("swarm.lsd", self.discovery.lsd != new.discovery.lsd),
            ("swarm.upnp", self.discovery.upnp != new.discovery.upnp),
            ("swarm.neighbours", self.neighbours != new.neighbours),
            (
                "swarm.recreate_threads",
                self.recreation.threads != new.recreation.threads,
            ),
            (
                "swarm.recreate_nice",
                self.recreation.nice != new.recreation.nice,
            ),
            ("cache.size", self.cache_size != new.cache_size),
            ("hold.location", self.hold != new.hold),
        ]
        .into_iter()
        .filter_map(|(key, differs)| differs.then_some(key))
        .collect()
    }
}
