//! The machines of the demo: options for nodes that all run in this process, on loopback and free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::cli::exit::Failure;
use crate::follow::{ChannelOptions, ManifestSource};
use crate::nix::{PublicKey, TrustedKeys};
use crate::serve::{Node, NodeOptions, Role};
use crate::store::StoreUri;
use crate::swarm::{DiscoveryOptions, Recreation, Share, SwarmOptions, UploadLimits};

use super::CHANNEL;

/// More than the demo can need.
const CACHE_SIZE: u64 = 100_000_000_000;

pub struct Machine(Result<NodeOptions, Failure>);

impl Machine {
    pub fn seedbox_of_store(state: &Path, store: &Path, channel: &Path, key: &PublicKey) -> Self {
        let mut options = options(Role::Seedbox, state, channel, key);
        if let Ok(options) = &mut options {
            options.store = Some(StoreUri::Local {
                root: Some(store.to_owned()),
            });
        }
        Self(options)
    }

    pub fn seedbox_of_payloads(
        state: &Path,
        payloads: &Path,
        channel: &Path,
        key: &PublicKey,
    ) -> Self {
        let mut options = options(Role::Seedbox, state, channel, key);
        if let Ok(options) = &mut options {
            options.swarm.hold = Some(payloads.to_owned());
        }
        Self(options)
    }

    pub fn agent(
        state: &Path,
        store: &Path,
        channel: &Path,
        key: &PublicKey,
        trusted: &PublicKey,
        peers: Vec<SocketAddr>,
    ) -> Self {
        let mut options = options(Role::Agent, state, channel, key);
        if let Ok(options) = &mut options {
            options.store = Some(StoreUri::Local {
                root: Some(store.to_owned()),
            });
            options.keys = [trusted.clone()].into_iter().collect();
            options.swarm.peers = peers;
        }
        Self(options)
    }

    pub async fn start(self) -> Result<Node, Failure> {
        Node::start(self.0?).await.map_err(Failure::failed)
    }
}

fn options(
    role: Role,
    state: &Path,
    channel: &Path,
    key: &PublicKey,
) -> Result<NodeOptions, Failure> {
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(NodeOptions {
        role,
        state: state.to_owned(),
        shim: loopback,
        shim_socket: None,
        store: None,
        swarm: SwarmOptions {
            listen: loopback,
            share: Share::Lan,
            networks: vec![],
            upload_limits: UploadLimits::default(),
            upload_slots: 4,
            recreation: Recreation {
                threads: None,
                nice: 0,
            },
            connections: 1024,
            peers: vec![],
            trackers: vec![],
            discovery: DiscoveryOptions {
                dht: false,
                bootstrap: vec![],
                lsd: false,
                upnp: false,
            },
            neighbours: 16,
            seedbox: role == Role::Seedbox,
            state: state.to_owned(),
            cache: state.join("cache"),
            cache_size: CACHE_SIZE,
            hold: None,
        },
        channels: vec![ChannelOptions {
            name: CHANNEL.parse().map_err(Failure::failed)?,
            key: key.clone(),
            source: ManifestSource::Directory(PathBuf::from(channel)),
            keep_releases: 1,
            keep_files: false,
        }],
        upstreams: vec![],
        keys: TrustedKeys::default(),
        warnings: vec![],
    })
}
