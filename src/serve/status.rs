//! `/status.json`: everything that `narswarm status` shows.

use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use crate::follow::Channels;
use crate::runtime::{Account, Counters};
use crate::substitute::Substituter;
use crate::swarm::Swarm;

use super::configured::ConfigView;
use super::router::Shim;

/// Rises when a field changes its meaning; new fields do not count.
const SCHEMA: u32 = 1;
/// Days of accounting in the answer; the file has more.
const DAYS_SHOWN: usize = 31;

pub async fn get(State(shim): State<Shim>) -> Json<Status> {
    let report = shim.status.clone();
    // The offer is counted over the whole catalog.
    let status = tokio::task::spawn_blocking(move || report.read()).await;
    Json(status.unwrap_or_default())
}

#[derive(Serialize, Default)]
pub struct Status {
    schema: u32,
    role: &'static str,
    version: &'static str,
    uptime_s: u64,
    pid: u32,
    encoder: EncoderStatus,
    ready: bool,
    addresses: Addresses,
    share: &'static str,
    pub config: ConfigView,
    pub channels: Vec<ChannelView>,
    pub offer: OfferView,
    pub swarm: SwarmView,
    pub bytes: Bytes,
    downloads: Vec<DownloadView>,
    pub upstreams: Vec<UpstreamView>,
    pub refused_404: u64,
    /// Hash parts of the newest of these.
    refused: Vec<String>,
    hold: Hold,
    /// The newest days, per channel.
    accounting: Vec<Account>,
    errors: Vec<String>,
}

#[derive(Serialize, Default)]
struct EncoderStatus {
    id: &'static str,
    /// Why nothing can be re-created, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    off: Option<String>,
}

#[derive(Serialize, Default)]
struct Addresses {
    shim: Option<SocketAddr>,
    peer: Option<SocketAddr>,
}

#[derive(Serialize)]
pub struct ChannelView {
    pub name: String,
    key: String,
    release: Option<String>,
    pub sequence: u64,
    created: u64,
    expires: u64,
    pub state: &'static str,
    pub paths: u64,
    pub peers: usize,
    last_error: Option<String>,
}

#[derive(Serialize, Default)]
pub struct OfferView {
    pub paths: u64,
    pub bytes: u64,
    pub withdrawn: u64,
}

#[derive(Serialize, Default)]
pub struct SwarmView {
    pub peers: usize,
    reachable: usize,
    pub uploading_to: usize,
    dht_nodes: usize,
    /// Topic connections.
    pub neighbours: usize,
    /// This machine's peer port, as neighbours see it: open, closed or unknown.
    port: &'static str,
    /// What stands in the way of connections, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    nat: Option<String>,
    /// How DHT nodes see this machine, and whether that address was not reachable from outside.
    #[serde(skip_serializing_if = "Option::is_none")]
    dht: Option<DhtStatus>,
    /// Whether local service discovery works; left out when it is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    lsd: Option<bool>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    lsd_error: Option<String>,
}

#[derive(Serialize)]
struct DhtStatus {
    public_address: Option<String>,
    firewalled: bool,
    last_error: Option<String>,
}

#[derive(Serialize, Default)]
pub struct Bytes {
    pub store: u64,
    pub swarm: u64,
    pub upstream: u64,
    pub uploaded: u64,
    pub wasted: u64,
}

#[derive(Serialize)]
struct DownloadView {
    store_path: String,
    done: u64,
    size: u64,
    source: &'static str,
}

#[derive(Serialize)]
pub struct UpstreamView {
    pub url: String,
    pub state: &'static str,
    last_error: Option<String>,
}

#[derive(Serialize, Default)]
struct Hold {
    /// Bytes that it fetches because of `hold.amount`: none in this version.
    amount: u64,
    used: u64,
}

/// What the status is read from.
pub struct StatusReport {
    pub role: &'static str,
    pub started: Instant,
    pub encoder_off: Option<String>,
    pub shim: SocketAddr,
    pub config: Arc<RwLock<ConfigView>>,
    pub channels: Arc<Channels>,
    pub swarm: Arc<Swarm>,
    pub counters: Arc<Counters>,
    pub substituter: Option<Arc<Substituter>>,
}

impl StatusReport {
    pub fn read(&self) -> Status {
        let peers = self.swarm.peer_counts();
        let (dht, lsd) = (self.swarm.dht(), self.swarm.lsd());
        let gossip = self.swarm.gossip();
        let offer = self.swarm.offered();
        let statuses = self.channels.statuses();
        let totals = self.counters.totals();
        // What a channel complains of is over as soon as it does not.
        let complaints = statuses.iter().filter_map(|channel| {
            let error = channel.last_error.as_ref()?;
            Some(format!("channel {}: {error}", channel.name))
        });
        let errors = totals.errors.into_iter().chain(complaints);
        let errors = errors.chain(self.swarm.faults()).collect();
        let channels = statuses.into_iter().map(|channel| ChannelView {
            name: channel.name,
            key: channel.key,
            release: channel.release,
            sequence: channel.sequence,
            created: channel.created,
            expires: channel.expires,
            state: channel.state.as_str(),
            paths: channel.paths,
            peers: self.swarm.neighbours_of(&channel.topic),
            last_error: channel.last_error,
        });
        let active = self
            .substituter
            .as_ref()
            .map(|substituter| substituter.active())
            .unwrap_or_default();
        let downloads = active.iter().map(|nar| DownloadView {
            store_path: nar.store_path.base_name(),
            done: nar.done(),
            size: nar.size,
            source: nar.source().as_str(),
        });
        let upstreams = self
            .substituter
            .as_ref()
            .map(|substituter| substituter.upstreams())
            .unwrap_or_default();
        let upstreams = upstreams.iter().map(|upstream| UpstreamView {
            url: upstream.url().to_string(),
            state: upstream.state().as_str(),
            last_error: upstream.last_error(),
        });
        Status {
            schema: SCHEMA,
            role: self.role,
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: self.started.elapsed().as_secs(),
            pid: std::process::id(),
            encoder: EncoderStatus {
                id: crate::payload::ENCODER_ID,
                off: self.encoder_off.clone(),
            },
            ready: true,
            addresses: Addresses {
                shim: Some(self.shim),
                peer: Some(self.swarm.address()),
            },
            share: self.swarm.share().as_str(),
            config: self
                .config
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            channels: channels.collect(),
            offer: OfferView {
                paths: offer.paths,
                bytes: offer.bytes,
                withdrawn: offer.withdrawn,
            },
            swarm: SwarmView {
                peers: peers.known,
                reachable: peers.reachable,
                uploading_to: peers.connected,
                dht_nodes: dht.as_ref().map_or(0, |dht| dht.nodes),
                dht: dht.map(|dht| DhtStatus {
                    public_address: dht.public_address.map(|address| address.to_string()),
                    firewalled: dht.firewalled,
                    last_error: dht.last_error,
                }),
                lsd: lsd.as_ref().map(|works| works.is_ok()),
                lsd_error: lsd.and_then(Result::err),
                neighbours: gossip.neighbours,
                port: gossip.port.as_str(),
                nat: gossip.nat(self.swarm.address().port()),
            },
            bytes: Bytes {
                store: totals.store,
                swarm: totals.swarm,
                upstream: totals.upstream,
                uploaded: totals.uploaded,
                wasted: totals.wasted,
            },
            downloads: downloads.collect(),
            upstreams: upstreams.collect(),
            refused_404: totals.refused_404,
            refused: totals.refused,
            accounting: self.counters.accounting().newest(DAYS_SHOWN),
            hold: Hold {
                amount: 0,
                used: offer.held,
            },
            errors,
        }
    }
}
