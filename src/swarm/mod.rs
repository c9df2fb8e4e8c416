//! The swarm: everything that speaks BitTorrent. Uploads are our own seeder, downloads are librqbit's.
//!
//! `seeding` gives and `downloading` gets; `discovery` finds machines and `gossip` speaks with those of a channel;
//! `payloads` is what lies on disk, `protocol` what goes over the wire. `listener` is the one public port, and `share`
//! says who may have what.

mod discovery;
mod downloading;
mod gossip;
mod listener;
mod networks;
mod options;
mod payloads;
mod peer_port;
mod protocol;
mod seeding;
mod share;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use thiserror::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use url::Url;

use crate::catalog::{InfoDicts, Offers, PlainFile, Release};
use crate::runtime::Counters;
use crate::torrent::InfoHash;

pub use discovery::dht::{DhtView, put_pointer};
pub use discovery::{DiscoveryOptions, Offered, Pointers, Topic};
pub use downloading::{
    Download, DownloadError, Downloads, Expected, Fetch, Prospect, Traffic, Wanted,
};
pub use gossip::{GossipReport, Port};
pub use networks::{is_private, own_addresses};
pub use options::SwarmOptions;
pub use payloads::{PartFile, Progress as SpoolProgress, Spool};
pub use seeding::{Recreation, ScheduledLimit, TimeOfDay, UploadLimits};
pub use share::{Network, NetworkError, Share, ShareError};

use discovery::{Announcer, Discovery, DiscoveryParts, PeerBook, PeerOrigin};
use downloading::{DownloadsParts, Sources};
use gossip::{Gossip, GossipParts};
use listener::Entrance;
use payloads::PayloadDirectory;
use peer_port::PeerPort;
use protocol::PeerId;
use seeding::{
    Crowds, IdleWork, Invitations, Keeping, OfferBook, OfferSummary, Places, Seeder, Slots,
    Tracker, UploadRates,
};
use share::SharePolicy;

#[derive(Debug, Error)]
pub enum SwarmError {
    #[error(
        "cannot listen on {address} for peers: {source}. Does another node run there, or is [swarm] listen wrong?"
    )]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("cannot use the cache directory {path}: {source}")]
    Cache { path: PathBuf, source: io::Error },
    #[error("cannot keep pointers in {path}: {source}")]
    Pointers { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Download(#[from] DownloadError),
    #[error("starting the threads that make payloads again: {0}")]
    Threads(io::Error),
    #[error("announcing on trackers: {0}")]
    Trackers(io::Error),
}

/// The running swarm of one agent or seedbox.
pub struct Swarm {
    address: SocketAddr,
    /// No interface had this address.
    early: bool,
    downloads: Arc<Downloads>,
    book: Arc<OfferBook>,
    peers: Arc<PeerBook>,
    pointers: Arc<Pointers>,
    gossip: Arc<Gossip>,
    policy: Arc<SharePolicy>,
    seeder: Arc<Seeder>,
    announcer: Announcer,
    discovery: Discovery,
    places: Places,
    trackers: RwLock<Vec<Url>>,
    /// Those that verified headers name.
    header_trackers: RwLock<Vec<Url>>,
}

impl Swarm {
    pub async fn start(
        options: SwarmOptions,
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        counters: Arc<Counters>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, SwarmError> {
        let port = PeerPort::bind(options.listen).await;
        let port = port.map_err(|source| SwarmError::Listen {
            address: options.listen,
            source,
        })?;
        let address = port.address;
        let directory = PayloadDirectory::open(&options.cache, options.cache_size);
        let directory = directory.map_err(|source| SwarmError::Cache {
            path: options.cache.clone(),
            source,
        })?;
        let path = options.state.join("pointers");
        let pointers = Pointers::new(path.clone());
        let pointers = pointers.map_err(|source| SwarmError::Pointers { path, source })?;
        let peers = Arc::new(PeerBook::default());
        options
            .peers
            .iter()
            .for_each(|peer| peers.add(*peer, PeerOrigin::Config));
        let policy = Arc::new(SharePolicy::new(options.share, options.networks));
        let peer_id = *PeerId::random().as_bytes();
        let book = OfferBook::new(
            offers,
            infos.clone(),
            directory.clone(),
            options.hold,
            options.recreation,
        );
        let book = Arc::new(book.map_err(SwarmError::Threads)?);
        let crowds = Arc::new(Crowds::new(rand::random()));
        let tracker = Tracker::new(book.clone(), crowds.clone(), policy.clone());
        let seeder = Arc::new(Seeder {
            book: book.clone(),
            crowds,
            rates: UploadRates::new(options.upload_limits),
            slots: Slots::new(options.upload_slots),
            invitations: Invitations::new(options.upload_slots),
            keeping: Keeping::default(),
            policy: policy.clone(),
            counters: counters.clone(),
            peer_id,
            port: address.port(),
        });
        let gossip = Gossip::start(GossipParts {
            peer_id,
            port: address.port(),
            seedbox: options.seedbox,
            neighbours: options.neighbours,
            policy: policy.clone(),
            peers: peers.clone(),
            pointers: pointers.clone(),
            book: book.clone(),
            seeder: seeder.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let places = Places::new(options.connections);
        let entrance = Entrance {
            seeder: seeder.clone(),
            tracker,
            gossip: gossip.clone(),
            policy: policy.clone(),
            places: places.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let idle_work = IdleWork {
            book: book.clone(),
            infos: infos.clone(),
            slots: seeder.slots.clone(),
            policy: policy.clone(),
        };
        tasks.spawn(idle_work.run(stop.clone()));
        tasks.spawn(book.clone().tidy(stop.clone()));
        tasks.spawn(entrance.listen(port.listener));
        let parts = DownloadsParts {
            sources: Arc::new(Sources::new(peers.clone(), gossip.clone())),
            infos,
            book: book.clone(),
            directory,
            counters,
            policy: policy.clone(),
            peer_id,
            port: address.port(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let downloads = Downloads::start(parts).await?;
        let lent = DiscoveryParts {
            listen: address,
            policy: policy.clone(),
            pointers: pointers.clone(),
            peers: peers.clone(),
        };
        let discovery = Discovery::start(&options.discovery, &lent, &options.state, &tasks, &stop);
        let announcer = Announcer {
            peers: peers.clone(),
            policy: policy.clone(),
            peer_id,
            port: address.port(),
            tasks,
            stop,
            running: Mutex::default(),
        };
        Ok(Self {
            address,
            early: port.early,
            downloads,
            book,
            peers,
            pointers,
            gossip,
            policy,
            seeder,
            announcer,
            discovery,
            places,
            trackers: RwLock::new(options.trackers),
            header_trackers: RwLock::default(),
        })
    }

    /// Where peers reach us.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What stands in the way of peers, or of downloads from them, until it does not any more.
    pub fn faults(&self) -> Vec<String> {
        let unheard = self.early && !own_addresses().contains(&self.address.ip().to_canonical());
        let unheard = unheard.then(|| {
            format!(
                "no interface has the address of [swarm] listen, {}: no peer can connect",
                self.address
            )
        });
        let fault = self.downloads.fault().map(str::to_owned);
        unheard.into_iter().chain(fault).collect()
    }

    pub fn downloads(&self) -> &Arc<Downloads> {
        &self.downloads
    }

    /// The known pointers of each channel.
    pub fn pointers(&self) -> &Arc<Pointers> {
        &self.pointers
    }

    /// Serves these files (manifests, layers, release files) beside the payloads.
    pub fn set_files(&self, files: Vec<PlainFile>) {
        self.book.set_files(files);
    }

    /// The followed channels' topics with their kept releases: what neighbours are spoken to about.
    pub fn set_topics(&self, channels: impl IntoIterator<Item = (InfoHash, Vec<Release>)>) {
        self.gossip.set_topics(channels);
    }

    /// How many neighbours speak of this channel.
    pub fn neighbours_of(&self, topic: &InfoHash) -> usize {
        self.gossip.neighbours_of(topic)
    }

    /// Neighbours, and what they say of our port.
    pub fn gossip(&self) -> GossipReport {
        self.gossip.report()
    }

    /// Peers that verified manifests and the channels' links name, instead of those named before.
    pub fn set_seedboxes(&self, seedboxes: &[SocketAddr]) {
        self.peers.name(seedboxes);
    }

    /// Trackers and DHT nodes that the headers of the catalog name. Returns whether the trackers are others than before:
    /// `announce` again.
    pub fn set_named(&self, trackers: Vec<Url>, bootstrap: Vec<SocketAddr>) -> bool {
        self.discovery.set_bootstrap(bootstrap);
        let known = self.header_trackers.write();
        let mut known = known.unwrap_or_else(PoisonError::into_inner);
        let others = *known != trackers;
        *known = trackers;
        others
    }

    /// What the DHT does; `None` when it is switched off.
    pub fn dht(&self) -> Option<DhtView> {
        self.discovery.dht()
    }

    /// Whether local service discovery works; `None` when it is switched off.
    pub fn lsd(&self) -> Option<Result<(), String>> {
        self.discovery.lsd()
    }

    /// Changes whenever a peer becomes known.
    pub fn new_peers(&self) -> watch::Receiver<u64> {
        self.peers.changes()
    }

    /// Takes over what may change while the swarm runs. What is not shared any more ends at once; `announce` again.
    pub fn reconfigure(&self, options: SwarmOptions) {
        self.policy.set(options.share, options.networks);
        self.seeder.rates.set(options.upload_limits);
        self.seeder.slots.set(options.upload_slots);
        self.seeder.invitations.set(options.upload_slots);
        self.places.set(options.connections);
        self.peers.configure(&options.peers);
        *self
            .trackers
            .write()
            .unwrap_or_else(PoisonError::into_inner) = options.trackers;
    }

    /// Whom this machine serves now.
    pub fn share(&self) -> Share {
        self.policy.share()
    }

    /// Announces the channels' topics on all trackers, instead of what was announced before.
    pub async fn announce(&self, topics: &[InfoHash]) -> Result<(), SwarmError> {
        let read = |trackers: &RwLock<Vec<Url>>| {
            let trackers = trackers.read().unwrap_or_else(PoisonError::into_inner);
            trackers.clone()
        };
        let trackers = [read(&self.trackers), read(&self.header_trackers)].concat();
        self.announcer
            .announce(&trackers, topics)
            .await
            .map_err(SwarmError::Trackers)
    }

    /// What is offered.
    pub fn offered(&self) -> OfferSummary {
        self.book.summary()
    }

    pub fn peer_counts(&self) -> PeerCounts {
        PeerCounts {
            known: self.peers.len(),
            reachable: self.peers.reachable(),
            connected: self.places.count(),
        }
    }
}

/// How many peers there are.
pub struct PeerCounts {
    pub known: usize,
    /// That answered.
    pub reachable: usize,
    /// That came to the peer port, and are still there.
    pub connected: usize,
}
