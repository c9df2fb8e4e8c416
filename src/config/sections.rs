//! The sections of agent.toml and seedbox.toml, as written; defaults stand here.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::address;
use super::units::{Rate, Size, Span};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentFile {
    pub state: Option<PathBuf>,
    #[serde(default)]
    pub trusted_keys: Vec<String>,
    /// Passwords of upstreams, in the form of nix.conf's `netrc-file`.
    pub netrc: Option<PathBuf>,
    #[serde(default)]
    pub shim: Shim,
    #[serde(default)]
    pub swarm: SwarmSection,
    #[serde(default)]
    pub store: StoreSection,
    #[serde(default)]
    pub cache: Cache,
    pub hold: Option<Hold>,
    #[serde(default)]
    pub channel: Vec<ChannelSection>,
    #[serde(default)]
    pub upstream: Vec<UpstreamSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedboxFile {
    pub state: Option<PathBuf>,
    #[serde(default)]
    pub swarm: SwarmSection,
    pub hold: Hold,
    #[serde(default)]
    pub http: Http,
    #[serde(default)]
    pub channel: Vec<ChannelSection>,
    #[serde(default)]
    pub upstream: Vec<UpstreamSection>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Shim {
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
    pub expressions: bool,
}

impl Default for Shim {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8642).into(),
            expressions: false,
        }
    }
}

/// Where a seedbox answers `status`; any free port by default, `STATE/run.json` tells which.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Http {
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 0).into(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SwarmSection {
    #[serde(deserialize_with = "address::deserialize")]
    pub listen: SocketAddr,
    pub share: String,
    pub networks: Vec<String>,
    pub upload_limit: Rate,
    /// For each address.
    pub peer_upload_limit: Option<Rate>,
    pub upload_slots: usize,
    /// Payload frames made at a time; one per core unless said.
    pub recreate_threads: Option<usize>,
    /// Their nice value, if the program's own is lower.
    pub recreate_nice: u8,
    /// Connections of peers that the port takes.
    pub connections: usize,
    pub schedule: Vec<ScheduleSection>,
    pub peers: Vec<String>,
    pub trackers: Vec<String>,
    /// More for a seedbox than for an agent.
    pub neighbours: Option<usize>,
    pub dht: bool,
    pub bootstrap: Vec<String>,
    pub lsd: bool,
    pub upnp: bool,
}

impl Default for SwarmSection {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 6881)),
            share: "lan".to_owned(),
            networks: vec![],
            upload_limit: Rate(2_000_000),
            peer_upload_limit: None,
            upload_slots: 4,
            recreate_threads: None,
            recreate_nice: 5,
            connections: 1024,
            schedule: vec![],
            peers: vec![],
            trackers: vec![],
            neighbours: None,
            dht: true,
            bootstrap: vec![],
            lsd: true,
            upnp: false,
        }
    }
}

/// An upload limit for some hours of the day, local time.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSection {
    pub from: String,
    pub to: String,
    pub upload_limit: Rate,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreSection {
    pub uri: String,
}

impl Default for StoreSection {
    fn default() -> Self {
        Self {
            uri: "local".to_owned(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cache {
    pub size: Size,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            size: Size(5_000_000_000),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    pub location: String,
    pub amount: Option<String>,
    #[serde(default)]
    pub source: HoldSource,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HoldSource {
    /// Payload files, as `publish --payloads` and `narswarm payload` write them.
    #[default]
    Payloads,
    /// A Nix store whose paths are re-created.
    Store,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelSection {
    pub name: Option<String>,
    pub key: Option<String>,
    pub manifest: Option<String>,
    /// A channel link, instead of the three above.
    pub link: Option<String>,
    #[serde(default = "keep_releases")]
    pub keep_releases: usize,
}

fn keep_releases() -> usize {
    3
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpstreamSection {
    pub url: String,
    /// The key of cache.nixos.org is known; other caches name theirs.
    pub keys: Option<Vec<String>>,
    #[serde(default)]
    pub resolve: Vec<String>,
    #[serde(default = "timeout")]
    pub timeout: Span,
}

fn timeout() -> Span {
    Span(std::time::Duration::from_secs(5))
}
