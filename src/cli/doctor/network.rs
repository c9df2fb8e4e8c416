//! What can be told by asking others: upstreams and their names, and how this machine is found by peers.

use std::io::{Error, ErrorKind};
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use serde_json::Value;
use tokio::net::lookup_host;
use tokio::time::timeout;

use crate::swarm::{Share, is_private, own_addresses};
use crate::upstream::{Upstream, UpstreamOptions};

use super::Patient;
use super::finding::Finding;

/// A look-up that takes longer is of no use to Nix either.
const LOOKUP: Duration = Duration::from_secs(5);

/// Whether there is a network at all.
pub fn addresses() -> Finding {
    const WHAT: &str = "network";
    let mut addresses = own_addresses();
    addresses.retain(|address| !address.is_loopback());
    match addresses.first() {
        Some(first) => Finding::ok(
            WHAT,
            format!("{} addresses, {first} first", addresses.len()),
        ),
        None => Finding::warn(
            WHAT,
            "no address but loopback",
            "connect this machine: until then only what is on it can be had",
        ),
    }
}

/// DNS and each upstream.
pub async fn upstreams(patient: &Patient) -> Vec<Finding> {
    let asked = join_all(patient.options.upstreams.iter().map(upstream)).await;
    let mut findings = dns(patient).await;
    // One good upstream is enough, and the swarm needs none.
    findings.extend(asked);
    findings
}

async fn dns(patient: &Patient) -> Vec<Finding> {
    const WHAT: &str = "DNS";
    let names = patient
        .options
        .upstreams
        .iter()
        .filter_map(|upstream| upstream.url.domain());
    let Some(name) = names.into_iter().next() else {
        return vec![Finding::unknown(WHAT, "not needed: no upstream has a name")];
    };
    let found = match timeout(LOOKUP, lookup_host((name, 443))).await {
        Ok(Ok(mut addresses)) => match addresses.next() {
            Some(address) => return vec![Finding::ok(WHAT, format!("{name} is {}", address.ip()))],
            None => format!("{name} has no address"),
        },
        Ok(Err(error)) => format!("{name}: {error}"),
        Err(_) => format!("no answer about {name} within {LOOKUP:?}"),
    };
    let remedy = format!(
        "the swarm goes on without it; for the upstream, resolve = [\"{name}:443:ADDRESS\"], or another nameserver"
    );
    vec![Finding::warn(WHAT, found, remedy)]
}

async fn upstream(options: &UpstreamOptions) -> Finding {
    const WHAT: &str = "upstream";
    let url = options.url.to_string();
    let remedy = "what only it has cannot be had; set [[upstream]] resolve when only its name is the trouble";
    let options = UpstreamOptions {
        // It is asked once, whatever comes of it.
        breaks: false,
        ..options.clone()
    };
    let upstream = match Upstream::new(options) {
        Ok(upstream) => Arc::new(upstream),
        Err(error) => return Finding::warn(WHAT, error.to_string(), remedy),
    };
    match upstream.file("nix-cache-info").await {
        Ok(Some(_)) => Finding::ok(WHAT, format!("{url} answers")),
        Ok(None) => Finding::warn(
            WHAT,
            format!("{url} is not a binary cache"),
            "correct its URL",
        ),
        Err(error) => Finding::warn(WHAT, error.to_string(), remedy),
    }
}

/// DHT, LSD, peers, and whether others reach this machine.
pub fn discovery(patient: &Patient) -> Vec<Finding> {
    let Ok(status) = &patient.status else {
        return vec![
            free_port(patient),
            Finding::unknown("peers", "no running node to ask"),
        ];
    };
    let swarm = &status["swarm"];
    let mut findings = vec![dht(patient, swarm), lsd(swarm), peers(swarm)];
    findings.push(public_port(patient, status));
    findings
}

/// Whether a node could have the peer port.
fn free_port(patient: &Patient) -> Finding {
    const WHAT: &str = "peer port";
    let listen = patient.options.swarm.listen;
    let taken = TcpListener::bind(listen).err();
    let taken = taken.or_else(|| UdpSocket::bind(listen).err());
    // Where there is no IPv6, [::] becomes 0.0.0.0.
    let stays = |error: &Error| {
        matches!(
            error.kind(),
            ErrorKind::AddrInUse | ErrorKind::PermissionDenied
        )
    };
    match taken.filter(stays) {
        None => Finding::ok(WHAT, format!("{listen} is free")),
        Some(error) => Finding::fail(
            WHAT,
            format!("{listen} cannot be listened on: {error}"),
            "end the program that has it, or set [swarm] listen",
        ),
    }
}

fn dht(patient: &Patient, swarm: &Value) -> Finding {
    const WHAT: &str = "DHT";
    let port = patient.options.swarm.listen.port();
    match (&swarm["dht"], swarm["dht_nodes"].as_u64().unwrap_or(0)) {
        (Value::Null, _) => Finding::unknown(WHAT, "switched off"),
        (dht, 0) => {
            let error = dht["last_error"].as_str();
            Finding::warn(
                WHAT,
                error.unwrap_or("no node answers").to_owned(),
                format!(
                    "let UDP port {port} through, or name [swarm] bootstrap nodes; peers, trackers and LSD do without"
                ),
            )
        }
        (_, nodes) => Finding::ok(WHAT, format!("{nodes} nodes")),
    }
}

fn lsd(swarm: &Value) -> Finding {
    const WHAT: &str = "LSD";
    match swarm["lsd"].as_bool() {
        None => Finding::unknown(WHAT, "switched off"),
        Some(true) => Finding::ok(WHAT, "listens on UDP port 6771"),
        Some(false) => Finding::warn(
            WHAT,
            swarm["lsd_error"].as_str().unwrap_or("it is not heard"),
            "neighbours on the LAN are not found; is there an interface with a private address, and UDP 6771 open?",
        ),
    }
}

fn peers(swarm: &Value) -> Finding {
    const WHAT: &str = "peers";
    let count = |key: &str| swarm[key].as_u64().unwrap_or(0);
    match (count("peers"), count("reachable")) {
        (0, _) => Finding::warn(
            WHAT,
            "none is known",
            "nobody to download from: add a peer, a tracker, or a link with x.pe; or wait for the DHT",
        ),
        (known, 0) => Finding::unknown(
            WHAT,
            format!("{known} known, none was needed or answered yet"),
        ),
        (known, reached) => Finding::ok(WHAT, format!("{known} known, {reached} answered")),
    }
}

/// Whether peers from outside can connect, as far as it can be told without asking a stranger.
fn public_port(patient: &Patient, status: &Value) -> Finding {
    const WHAT: &str = "public port";
    let (port, swarm) = (patient.options.swarm.listen.port(), &status["swarm"]);
    if status["share"] != Share::Public.as_str() {
        return Finding::unknown(
            WHAT,
            "share is not \"public\": nobody from outside is served",
        );
    }
    let mut forward =
        format!("forward TCP and UDP port {port} to this machine, and open it in the firewall");
    if !patient.options.swarm.discovery.upnp {
        forward += "; [swarm] upnp = true asks the router for it";
    }
    let seen = swarm["dht"]["public_address"].as_str().unwrap_or_default();
    let untried = "no neighbour has tried it yet";
    match (swarm["port"].as_str(), swarm["nat"].as_str()) {
        (Some("open"), _) => Finding::ok(WHAT, format!("{port} is reached by neighbours")),
        (Some("closed"), reason) => Finding::warn(
            WHAT,
            reason.unwrap_or("neighbours cannot connect").to_owned(),
            forward,
        ),
        _ if !seen.is_empty() => Finding::unknown(WHAT, format!("DHT nodes see {seen}; {untried}")),
        _ => match own_addresses() {
            own if own.iter().all(IpAddr::is_loopback) => Finding::unknown(WHAT, untried),
            own if !own.iter().copied().all(is_private) => Finding::unknown(WHAT, untried),
            _ => Finding::warn(WHAT, "only private addresses: behind NAT", forward),
        },
    }
}
