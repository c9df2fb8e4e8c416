//! Where agents of the followed channels are met without being configured: the DHT and the LAN;
//! and how others get through to here.

pub mod dht;
mod http_tracker;
mod internet_gateway;
#[cfg(test)]
mod lab;
mod lsd;
mod peers;
mod plain_http;
mod pointers;
mod port_mapping;
mod trackers;

pub use peers::{MAX_PEERS, PeerBook, PeerOrigin};
pub use pointers::{Offered, Pointers, Topic};
pub use trackers::Announcer;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::swarm::share::SharePolicy;
use dht::{Dht, DhtParts, DhtView};
use lsd::Lsd;
use port_mapping::PortMapping;

/// What the configuration says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryOptions {
    pub dht: bool,
    /// Literal addresses of DHT nodes; empty means the well-known ones.
    pub bootstrap: Vec<SocketAddr>,
    pub lsd: bool,
    /// Whether the router is asked to forward the peer port.
    pub upnp: bool,
}

/// What the rest of the swarm lends.
pub struct DiscoveryParts {
    /// The peer port.
    pub listen: SocketAddr,
    pub policy: Arc<SharePolicy>,
    pub pointers: Arc<Pointers>,
    pub peers: Arc<PeerBook>,
}

pub struct Discovery {
    dht: Option<watch::Receiver<DhtView>>,
    lsd: Option<watch::Receiver<Option<String>>>,
    from_headers: Arc<Mutex<Vec<SocketAddr>>>,
}

impl Discovery {
    /// Starts what is switched on; it takes part for each channel from the moment that it is followed.
    pub fn start(
        options: &DiscoveryOptions,
        parts: &DiscoveryParts,
        state: &Path,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let from_headers = Arc::new(Mutex::default());
        let dht = options.dht.then(|| {
            let view = watch::Sender::default();
            let seen = view.subscribe();
            let dht = Dht::new(DhtParts {
                listen: parts.listen,
                configured: options.bootstrap.clone(),
                from_headers: Arc::clone(&from_headers),
                kept: state.join("dht"),
                policy: parts.policy.clone(),
                pointers: parts.pointers.clone(),
                peers: parts.peers.clone(),
                view,
            });
            tasks.spawn(dht.run(stop.clone()));
            seen
        });
        let lsd = options.lsd.then(|| {
            let fault = watch::Sender::default();
            let seen = fault.subscribe();
            let lsd = Lsd {
                port: parts.listen.port(),
                policy: parts.policy.clone(),
                pointers: parts.pointers.clone(),
                peers: parts.peers.clone(),
                fault,
            };
            tasks.spawn(lsd.run(stop.clone()));
            seen
        });
        if options.upnp {
            let mapping = PortMapping {
                port: parts.listen.port(),
                policy: parts.policy.clone(),
            };
            tasks.spawn(mapping.run(stop.clone()));
        }
        Self {
            dht,
            lsd,
            from_headers,
        }
    }

    /// DHT nodes that verified headers name.
    pub fn set_bootstrap(&self, nodes: Vec<SocketAddr>) {
        *self.from_headers.lock().unwrap_or_else(|e| e.into_inner()) = nodes;
    }

    /// `None` when it is switched off.
    pub fn dht(&self) -> Option<DhtView> {
        self.dht.as_ref().map(|view| view.borrow().clone())
    }

    /// `None` when it is switched off, `Some(Err)` with the reason when it does not work.
    pub fn lsd(&self) -> Option<Result<(), String>> {
        let fault = self.lsd.as_ref()?.borrow().clone();
        Some(fault.map_or(Ok(()), Err))
    }
}
