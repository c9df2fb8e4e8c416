//! The DHT: the pointer of each followed channel is got and kept alive there (BEP 44), its agents meet there (BEP 5).
//!
//! Nothing is announced or put beyond `share`, and no package is ever named: one target per channel. Nodes are known by
//! literal addresses only. A mutable item is put again by whoever knows it: that needs its signature, not its key.
//!
//! ```text
//! STATE/dht   nodes of the routing table, an address a line: where a restart begins, whatever became of the bootstrap
//! ```

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use mainline::async_dht::AsyncDht;
use mainline::{Id, MutableItem, RequestFilter, RequestSpecific, ServerSettings};
use rand::RngExt;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::manifest::Pointer;
use crate::runtime::{Readers, write_new};
use crate::torrent::InfoHash;

use super::peers::{PeerBook, PeerOrigin};
use super::pointers::{Pointers, Topic};
use crate::swarm::networks::own_addresses;
use crate::swarm::share::{Share, SharePolicy};

/// Long-lived public nodes: dht.transmissionbt.com (two), dht.libtorrent.org, router.bittorrent.com, router.utorrent.com.
const WELL_KNOWN: [SocketAddrV4; 5] = [
    SocketAddrV4::new(Ipv4Addr::new(212, 129, 33, 59), 6881),
    SocketAddrV4::new(Ipv4Addr::new(87, 98, 162, 88), 6881),
    SocketAddrV4::new(Ipv4Addr::new(185, 157, 221, 247), 25401),
    SocketAddrV4::new(Ipv4Addr::new(67, 215, 246, 10), 6881),
    SocketAddrV4::new(Ipv4Addr::new(82, 221, 103, 244), 6881),
];
/// Nodes kept on disk. A small table is filled up by asking all of them, so they are few.
const KEPT_NODES: usize = 40;
/// A file of `KEPT_NODES` addresses is far smaller.
const MAX_KEPT_FILE: u64 = 64 * 1024;
/// Between two looks at each channel. News travel by gossip; the DHT is for those who have nobody to ask.
const ROUND: Duration = Duration::from_secs(300);
/// While a channel has no release with a pointer yet.
const HASTY_ROUND: Duration = Duration::from_secs(30);
/// While hardly anybody answers: a round then costs next to nothing.
const LONELY_ROUND: Duration = Duration::from_secs(5);
const LONELY: usize = 4;
/// Where nobody has answered in so many rounds, the network probably lets no UDP through.
const ROUNDS_IN_VAIN: u32 = 6;
/// Then nothing is sent for so long, and twice as long each time.
const REST: Duration = Duration::from_secs(30);
const LONGEST_REST: Duration = Duration::from_secs(600);
/// A node that was let go of has its port until its thread notices.
const PORT_FREED: Duration = Duration::from_millis(50);
const PORT_TRIES: u32 = 40;
/// After news from elsewhere the DHT is looked at within this.
const NEWS_SPREAD: Duration = Duration::from_secs(10);
/// Nodes forget an item or an announce after an hour or two.
const PUT_AGAIN: Duration = Duration::from_secs(45 * 60);
const ANNOUNCE_AGAIN: Duration = Duration::from_secs(15 * 60);
/// One query: a look-up takes a few seconds, more is a node that plays for time.
const QUERY: Duration = Duration::from_secs(30);
/// Addresses taken from one look-up: anybody may announce any number of them.
const MAX_FOUND: usize = 200;

/// What the DHT is doing, for `status` and `doctor`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DhtView {
    pub nodes: usize,
    /// How other nodes see us.
    pub public_address: Option<SocketAddrV4>,
    /// Whether that address could not be reached from outside.
    pub firewalled: bool,
    pub last_error: Option<String>,
}

pub struct DhtParts {
    /// The peer port's address; UDP has the same port.
    pub listen: SocketAddr,
    /// Literals from the configuration; empty means the well-known ones.
    pub configured: Vec<SocketAddr>,
    /// Literals that verified headers name.
    pub from_headers: Arc<Mutex<Vec<SocketAddr>>>,
    pub kept: PathBuf,
    pub policy: Arc<SharePolicy>,
    pub pointers: Arc<Pointers>,
    pub peers: Arc<PeerBook>,
    pub view: watch::Sender<DhtView>,
}

/// What was done for a channel, and when.
#[derive(Default)]
struct Done {
    put: Option<Instant>,
    announced: Option<Instant>,
}

pub struct Dht {
    parts: DhtParts,
    done: HashMap<InfoHash, Done>,
}

impl Dht {
    pub fn new(parts: DhtParts) -> Self {
        let done = HashMap::new();
        Self { parts, done }
    }

    /// Takes part until `stop`.
    pub async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.rounds() => {}
        }
    }

    async fn rounds(&mut self) {
        let mut news = self.parts.pointers.subscribe();
        let mut vain = 0;
        loop {
            let bootstrap = self.bootstrap();
            let node = match self.start(&bootstrap).await {
                Ok(node) => node,
                Err(error) => {
                    let port = self.parts.listen.port();
                    let reason = format!("the DHT needs UDP port {port}: {error}");
                    tracing::warn!("{reason}");
                    self.parts
                        .view
                        .send_modify(|view| view.last_error = Some(reason));
                    // An interface may get this address later.
                    match error.kind() {
                        io::ErrorKind::AddrNotAvailable => sleep(HASTY_ROUND).await,
                        _ => sleep(ROUND).await,
                    }
                    continue;
                }
            };
            loop {
                news.mark_unchanged();
                let pause = self.round(&node).await;
                if self.parts.view.borrow().nodes > 0 {
                    vain = 0;
                } else {
                    vain += 1;
                    // With other nodes to begin at, a table that stayed empty is begun anew.
                    if self.bootstrap() != bootstrap || self.is_rest_due(vain) {
                        break;
                    }
                }
                // Each agent at another moment.
                let chance: f64 = rand::rng().random_range(0.0..1.0);
                tokio::select! {
                    () = sleep(pause.mul_f64(0.8 + 0.4 * chance)) => {}
                    _ = news.changed() => sleep(NEWS_SPREAD.mul_f64(chance)).await,
                }
            }
            drop(node);
            if self.is_rest_due(vain) {
                tokio::select! {
                    () = self.rest(rest_after(vain), &bootstrap) => {}
                    _ = news.changed() => {}
                }
            }
        }
    }

    /// In a network of one's own, which the configuration or a header names, somebody may always come.
    fn is_rest_due(&self, vain: u32) -> bool {
        let headers = self.parts.from_headers.lock();
        let headers = headers.unwrap_or_else(|e| e.into_inner());
        let is_lan = |node: &SocketAddr| self.parts.policy.is_lan(node.ip());
        let ours = !self.parts.configured.is_empty() || headers.iter().any(is_lan);
        !ours && vain > 0 && vain.is_multiple_of(ROUNDS_IN_VAIN)
    }

    /// Sends nothing for so long, or until there are other nodes to begin at or this machine is in another network.
    async fn rest(&self, time: Duration, bootstrap: &[SocketAddrV4]) {
        let (start, own) = (Instant::now(), own_addresses());
        while start.elapsed() < time && own_addresses() == own && self.bootstrap() == bootstrap {
            sleep(LONELY_ROUND).await;
        }
    }

    /// One look at every channel. Returns how long to wait for the next.
    async fn round(&mut self, node: &AsyncDht) -> Duration {
        let mut complete = true;
        for topic in self.parts.pointers.followed() {
            self.pointer(node, &topic).await;
            self.agents(node, &topic).await;
            complete &= self.parts.pointers.here(&topic.info_hash).is_some();
        }
        let (info, nodes) = (node.info().await, node.to_bootstrap().await);
        self.parts.view.send_replace(DhtView {
            nodes: nodes.len(),
            public_address: info.public_address(),
            firewalled: info.firewalled(),
            last_error: None,
        });
        self.keep(&nodes);
        match complete {
            true if !nodes.is_empty() => ROUND,
            _ if nodes.len() < LONELY => LONELY_ROUND,
            _ => HASTY_ROUND,
        }
    }

    /// Gets the pointer; gives ours where the DHT lags behind, and from time to time. Nobody keeps one alive whose release
    /// does not exist: only what is here is put.
    async fn pointer(&mut self, node: &AsyncDht, topic: &Topic) {
        let salt = topic.channel.as_str().as_bytes();
        let mut items = node.get_mutable(&topic.key, Some(salt), None);
        let (mut best, pointers) = (0, self.parts.pointers.clone());
        let read = async {
            while let Some(item) = items.next().await {
                let salt = item.salt().unwrap_or_default();
                let signed = (item.key(), salt, item.seq(), item.value(), item.signature());
                let (key, salt, sequence, value, signature) = signed;
                match Pointer::from_item(*key, salt, sequence, value, *signature) {
                    Ok(pointer) => {
                        best = best.max(pointer.sequence());
                        pointers.offer(pointer);
                    }
                    Err(error) => tracing::debug!(%error, "the DHT gave a pointer that is none"),
                }
            }
        };
        let _ = timeout(QUERY, read).await;
        let here = self.parts.pointers.here(&topic.info_hash);
        // Asked after the look-up: that takes its time, and `share` may change meanwhile.
        let Some(here) = here.filter(|_| self.announces()) else {
            return;
        };
        let done = self.done.entry(topic.info_hash).or_default();
        if best < here.sequence() || is_due(done.put, PUT_AGAIN) {
            match put(node, &here).await {
                Ok(_) => done.put = Some(Instant::now()),
                Err(error) => {
                    tracing::debug!(channel = %topic.channel, error, "the pointer was not put");
                }
            }
        }
    }

    /// Learns who else follows the channel, and tells that we do.
    async fn agents(&mut self, node: &AsyncDht, topic: &Topic) {
        let target = Id::from(topic.info_hash.as_bytes());
        let found = node.get_peers(target).take(MAX_FOUND);
        let (port, peers) = (self.parts.listen.port(), self.parts.peers.clone());
        let (own, policy) = (own_addresses(), self.parts.policy.clone());
        let within_lan = self.is_within_lan();
        let read = found.for_each(|addresses| {
            for address in addresses.into_iter().take(MAX_FOUND) {
                let ip = IpAddr::V4(*address.ip());
                let ourselves = address.port() == port && own.contains(&ip);
                // Only a DHT of the LAN knows what is there: the world's would send us through our own networks.
                if !ourselves && (within_lan || !policy.is_lan(ip)) {
                    peers.add(address.into(), PeerOrigin::Dht);
                }
            }
            std::future::ready(())
        });
        let _ = timeout(QUERY, read).await;
        let announces = self.announces();
        let done = self.done.entry(topic.info_hash).or_default();
        if announces && is_due(done.announced, ANNOUNCE_AGAIN) {
            match timeout(QUERY, node.announce_peer(target, Some(port))).await {
                Ok(Ok(_)) => done.announced = Some(Instant::now()),
                Ok(Err(error)) => {
                    tracing::debug!(channel = %topic.channel, %error, "not announced in the DHT");
                }
                Err(_) => {}
            }
        }
    }

    async fn start(&self, bootstrap: &[SocketAddrV4]) -> io::Result<AsyncDht> {
        let mut tries = 0;
        loop {
            match self.try_to_start(bootstrap).await {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && tries < PORT_TRIES => {
                    tries += 1;
                    sleep(PORT_FREED).await;
                }
                started => return started,
            }
        }
    }

    async fn try_to_start(&self, bootstrap: &[SocketAddrV4]) -> io::Result<AsyncDht> {
        let address = match self.parts.listen.ip().to_canonical() {
            IpAddr::V4(address) => address,
            IpAddr::V6(address) if address.is_unspecified() => Ipv4Addr::UNSPECIFIED,
            IpAddr::V6(_) => {
                return Err(io::Error::other("it has IPv4 only, and the port has none"));
            }
        };
        let mut builder = mainline::Dht::builder();
        builder
            .bind_address(address)
            .port(self.parts.listen.port())
            .server_settings(ServerSettings {
                filter: Box::new(Within(self.parts.policy.clone())),
                ..ServerSettings::default()
            });
        match bootstrap {
            // The first node of a network of its own.
            [] => builder.no_bootstrap(),
            nodes => builder.bootstrap(nodes),
        };
        // In a network of one's own nobody else keeps anything. In the public one it becomes a server once it is seen to
        // be reachable.
        if !self.parts.configured.is_empty() && self.announces() {
            builder.server_mode();
        }
        // It may panic where its thread does not get the port.
        drop(std::net::UdpSocket::bind((
            address,
            self.parts.listen.port(),
        ))?);
        let built = tokio::task::spawn_blocking(move || builder.build()).await;
        Ok(built.map_err(io::Error::other)??.as_async())
    }

    /// Where to begin: configured or well-known nodes, those of headers, those of the last run; never ourselves.
    fn bootstrap(&self) -> Vec<SocketAddrV4> {
        let own = own_addresses();
        let headers = self.parts.from_headers.lock();
        let headers = headers.unwrap_or_else(|e| e.into_inner()).clone();
        let named = self.parts.configured.iter().chain(&headers);
        let mut nodes: Vec<SocketAddrV4> = named.filter_map(v4).collect();
        if self.parts.configured.is_empty() {
            nodes.extend(WELL_KNOWN);
        }
        nodes.extend(self.kept());
        let mut seen = HashSet::new();
        nodes.retain(|node| {
            let ourselves =
                node.port() == self.parts.listen.port() && own.contains(&IpAddr::V4(*node.ip()));
            !ourselves && seen.insert(*node)
        });
        nodes
    }

    /// Whether this machine may be named there: with `lan` only in a DHT that begins, by configuration, within the LAN.
    fn announces(&self) -> bool {
        match self.parts.policy.share() {
            Share::Off => false,
            Share::Lan => self.is_within_lan(),
            Share::Public => true,
        }
    }

    /// Whether this DHT begins, by configuration, within the LAN.
    fn is_within_lan(&self) -> bool {
        let (policy, configured) = (&self.parts.policy, &self.parts.configured);
        !configured.is_empty() && configured.iter().all(|node| policy.is_lan(node.ip()))
    }

    fn kept(&self) -> Vec<SocketAddrV4> {
        let small = fs::metadata(&self.parts.kept).is_ok_and(|file| file.len() <= MAX_KEPT_FILE);
        let text = small.then(|| fs::read_to_string(&self.parts.kept).ok());
        let text = text.flatten().unwrap_or_default();
        let nodes = text.lines().filter_map(|line| line.parse().ok());
        nodes.take(KEPT_NODES).collect()
    }

    fn keep(&self, nodes: &[String]) {
        if nodes.is_empty() {
            return;
        }
        let nodes: Vec<&str> = nodes.iter().take(KEPT_NODES).map(String::as_str).collect();
        let text = nodes.join("\n") + "\n";
        if let Err(error) = write_new(&self.parts.kept, text.as_bytes(), Readers::Owner) {
            tracing::debug!(path = %self.parts.kept.display(), %error, "DHT nodes could not be kept");
        }
    }
}

/// Puts a pointer once, from a node that only lives for this. Returns how many nodes took it.
pub async fn put_pointer(pointer: &Pointer, bootstrap: &[SocketAddr]) -> Result<usize, String> {
    let mut nodes: Vec<SocketAddrV4> = bootstrap.iter().filter_map(v4).collect();
    if nodes.is_empty() {
        nodes.extend(WELL_KNOWN);
    }
    let mut builder = mainline::Dht::builder();
    let node = builder.port(0).bootstrap(&nodes).build();
    put(
        &node.map_err(|error| error.to_string())?.as_async(),
        pointer,
    )
    .await
}

async fn put(node: &AsyncDht, pointer: &Pointer) -> Result<usize, String> {
    let item = MutableItem::new_signed_unchecked(
        *pointer.key(),
        *pointer.signature(),
        &pointer.value(),
        pointer.sequence() as i64,
        Some(pointer.channel().as_str().as_bytes()),
    );
    match timeout(QUERY, node.put_mutable(item, None)).await {
        Ok(Ok(outcome)) => Ok(outcome.stored_at as usize),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {QUERY:?}")),
    }
}

fn rest_after(vain: u32) -> Duration {
    let rests_before = (vain / ROUNDS_IN_VAIN).saturating_sub(1);
    let doubled = REST.saturating_mul(1 << rests_before.min(16));
    doubled.min(LONGEST_REST)
}

fn is_due(done: Option<Instant>, again: Duration) -> bool {
    done.is_none_or(|at| at.elapsed() >= again)
}

fn v4(address: &SocketAddr) -> Option<SocketAddrV4> {
    match (address.ip().to_canonical(), address.port()) {
        (IpAddr::V4(ip), port) => Some(SocketAddrV4::new(ip, port)),
        (IpAddr::V6(_), _) => None,
    }
}

/// Answers only those with whom this machine shares.
#[derive(Clone)]
struct Within(Arc<SharePolicy>);

impl std::fmt::Debug for Within {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Within({})", self.0.share().as_str())
    }
}

impl RequestFilter for Within {
    fn allow_request(&self, _: &RequestSpecific, from: SocketAddrV4) -> bool {
        self.0.allows(from.into())
    }
}

#[cfg(test)]
mod tests;
