//! librqbit: one session for all downloads, with our storage, our tracker and our own talk beside it.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use librqbit::api::TorrentIdOrHash;
use librqbit::{
    AddTorrent, AddTorrentOptions, ConnectionOptions, ListenerOptions, PeerConnectionOptions,
    Session, SessionOptions,
};
use librqbit_core::hash_id::Id20;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use crate::runtime::{Counters, Meter};
use crate::swarm::payloads::PartFile;
use crate::swarm::protocol::{PeerId, REQUEST_WINDOW};
use crate::swarm::share::SharePolicy;
use crate::torrent::{InfoDict, InfoHash, Metainfo};

use super::companion::Companion;
use super::downloads::{DownloadError, DownloadsParts};
use super::local_tracker::{LocalTracker, POLL};
use super::sources::Sources;
use super::storage::PartStorageFactory;
use super::wake_up::WakeUp;
use super::way_out::WayOut;
use super::witness::Witness;

/// librqbit's permits for disk work. Each write holds one for a moment; the default of 8 starves 25 parallel NARs.
const DISK_PERMITS: usize = 64;
/// Torrents whose first check may run at once: it only reads what a part file holds.
const PARALLEL_CHECKS: usize = 32;
/// How often it is looked at who delivers.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const PEER_SILENCE: Duration = Duration::from_secs(20);

pub struct Engine {
    /// Or why there is none.
    session: Result<Arc<Session>, String>,
    /// Only verified pieces count: garbage is quick too.
    meter: Arc<Meter>,
    tracker: Arc<LocalTracker>,
    sources: Arc<Sources>,
    counters: Arc<Counters>,
    policy: Arc<SharePolicy>,
    peer_id: [u8; 20],
    port: u16,
}

impl Engine {
    pub async fn start(parts: &DownloadsParts) -> Result<Self, DownloadError> {
        let DownloadsParts {
            sources,
            tasks,
            stop,
            ..
        } = parts;
        let local = DownloadError::Local;
        let tracker = LocalTracker::start(sources.clone(), parts.policy.clone(), stop.clone())
            .await
            .map_err(local)?;
        // Holders behind NAT connect to our port, and from there to this one.
        let listen = ListenerOptions {
            listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            ipv4_only: true,
            ..ListenerOptions::default()
        };
        let way_out = WayOut::start(tracker.clone(), tasks, stop)
            .await
            .map_err(local)?;
        let connect = ConnectionOptions {
            proxy_url: Some(way_out.url()),
            ..ConnectionOptions::default()
        };
        let options = SessionOptions {
            dht: None,
            listen: Some(listen),
            connect: Some(connect),
            disable_upload: true,
            disable_local_service_discovery: true,
            peer_id: Some(Id20::new(parts.peer_id)),
            concurrent_init_limit: Some(PARALLEL_CHECKS),
            runtime_worker_threads: Some(DISK_PERMITS),
            cancellation_token: Some(stop.clone()),
            ..SessionOptions::default()
        };
        // librqbit believes to keep its files there; it writes nothing.
        let session = Session::new_with_opts(parts.directory.path().to_owned(), options).await;
        let session = match session {
            Ok(session) => Ok(session),
            Err(error) if has_ipv6() => return Err(failure(error)),
            // Its client for UDP trackers binds to `[::]`, whatever the options.
            Err(error) => {
                let fault = format!(
                    "nothing is downloaded from the swarm: librqbit needs a kernel with IPv6 ({error:#})"
                );
                tracing::warn!("{fault}");
                Err(fault)
            }
        };
        if let Some(address) = session.as_ref().ok().and_then(|s| s.listen_addr()) {
            // The tracker knows gossip: neither is to keep the other.
            let tracker = Arc::downgrade(&tracker);
            let heard = move |from, info_hash: &_, peers| {
                if let Some(tracker) = tracker.upgrade() {
                    tracker.tell(info_hash, from, peers);
                }
            };
            let dial_backs = &sources.gossip().dial_backs;
            dial_backs.set_engine(address.port(), Box::new(heard));
        }
        Ok(Self {
            session,
            meter: Arc::default(),
            tracker,
            sources: sources.clone(),
            counters: parts.counters.clone(),
            policy: parts.policy.clone(),
            peer_id: parts.peer_id,
            port: parts.port,
        })
    }

    /// Downloads until all pieces are there, the part file has failed, or `stop`.
    pub async fn run(
        &self,
        part: &Arc<PartFile>,
        stop: &CancellationToken,
    ) -> Result<(), DownloadError> {
        let info_hash = part.info_hash();
        let session = self.session.as_ref();
        let session = session.map_err(|reason| DownloadError::Engine(reason.clone()))?;
        self.sources.gossip().ask_dial_backs(&info_hash);
        let peers = self.tracker.begin(info_hash, part.info().piece_count());
        let options = AddTorrentOptions {
            overwrite: true,
            initial_peers: Some(peers.clone()),
            trackers: Some(vec![self.tracker.url()]),
            force_tracker_interval: Some(POLL),
            peer_opts: Some(PeerConnectionOptions {
                connect_timeout: Some(CONNECT_TIMEOUT),
                read_write_timeout: Some(PEER_SILENCE),
                max_request_window: Some(REQUEST_WINDOW as usize),
                ..PeerConnectionOptions::default()
            }),
            storage_factory: Some(PartStorageFactory::boxed(part.clone(), self.meter.clone())),
            ..AddTorrentOptions::default()
        };
        let mut progress = part.progress();
        let metainfo = Metainfo {
            info: InfoDict::clone(part.info()),
            trackers: vec![],
        }
        .encode();
        let added = session
            .add_torrent(AddTorrent::from_bytes(metainfo), Some(options))
            .await
            .map_err(failure)?;
        let handle = added.into_handle();
        let _beside = self.beside(session, part, peers);
        let mut witness = Witness::new(info_hash, self.sources.clone());
        let mut look = interval(LOOK_INTERVAL);
        loop {
            if part.is_complete() || part.failure().is_some() {
                break;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                changed = progress.changed() => if changed.is_err() { break },
                _ = look.tick() => {
                    handle.iter().for_each(|handle| witness.look(handle));
                    if part.bytes_done() == 0 {
                        self.sources.gossip().ask_dial_backs(&info_hash);
                    }
                }
            }
        }
        handle.iter().for_each(|handle| witness.look(handle));
        if let Some(live) = handle.and_then(|torrent| torrent.live()) {
            // Blocks that came twice, of pieces that did not have their hash, or of pieces that were not finished.
            let stats = live.stats_snapshot();
            let used = stats.downloaded_and_checked_bytes;
            self.counters
                .wasted(stats.fetched_bytes.saturating_sub(used));
        }
        let id = TorrentIdOrHash::Hash(Id20::new(*info_hash.as_bytes()));
        session.delete(id, false).await.map_err(failure)?;
        match part.failure() {
            Some(reason) => Err(DownloadError::Engine(reason.to_owned())),
            None => Ok(()),
        }
    }

    /// Why nothing can be downloaded, if so.
    pub fn fault(&self) -> Option<&str> {
        self.session.as_ref().err().map(String::as_str)
    }

    /// Bytes of pieces, of all downloads.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The download has ended: nobody is asked for it any more.
    pub fn forget(&self, info_hash: &InfoHash) {
        self.tracker.forget(info_hash);
        self.sources.gossip().dial_backs.forget(info_hash);
    }

    /// What runs beside librqbit; ends when dropped.
    fn beside(
        &self,
        session: &Session,
        part: &Arc<PartFile>,
        peers: Vec<SocketAddr>,
    ) -> JoinSet<()> {
        let offered = Arc::new(Notify::new());
        let mut beside = JoinSet::new();
        if let Some(listener) = session.listen_addr() {
            let wake_up = WakeUp {
                listener,
                part: part.clone(),
                offered: offered.clone(),
            };
            beside.spawn(wake_up.run());
        }
        let companion = Companion {
            part: part.clone(),
            policy: self.policy.clone(),
            tracker: self.tracker.clone(),
            peer_id: PeerId::from_bytes(self.peer_id),
            port: self.port,
            offered,
        };
        beside.spawn(companion.run(peers));
        beside
    }
}

fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0)).is_ok()
}

fn failure(error: anyhow::Error) -> DownloadError {
    DownloadError::Engine(format!("{error:#}"))
}
