//! The downloader that all seeders are measured with: librqbit as it comes, in this process, writing to memory.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use librqbit::api::TorrentIdOrHash;
use librqbit::{AddTorrent, AddTorrentOptions, Session, SessionOptions};
use narswarm::torrent::{InfoDict, Metainfo};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// librqbit's permits for disk work, as our own downloads have them: not what is measured.
pub const DISK_PERMITS: usize = 64;
/// Longer than any of these downloads takes when it goes on at all.
const PATIENCE: Duration = Duration::from_secs(300);

pub struct Fetched {
    pub seconds: f64,
    /// From `add_torrent` to the last piece, ascending.
    latencies: Vec<Duration>,
}

impl Fetched {
    pub fn per_second(&self) -> f64 {
        self.latencies.len() as f64 / self.seconds
    }

    /// The median latency.
    pub fn p50_ms(&self) -> f64 {
        self.latencies[self.latencies.len() / 2].as_secs_f64() * 1e3
    }
}

/// No discovery of any kind: peers are given.
pub fn quiet_options() -> SessionOptions {
    SessionOptions {
        dht: None,
        disable_trackers: true,
        disable_local_service_discovery: true,
        runtime_worker_threads: Some(DISK_PERMITS),
        concurrent_init_limit: Some(16),
        ipv4_only: true,
        ..SessionOptions::default()
    }
}

/// Downloads all of them from one peer, `parallel` at a time, with a session of its own.
pub fn fetch_all(infos: &[InfoDict], from: SocketAddr, parallel: usize) -> Fetched {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let fetched = runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let session = Session::new_with_opts(directory.path().to_owned(), quiet_options()).await;
        let session = session.unwrap();
        let torrents: Vec<(u64, Vec<u8>)> = infos.iter().map(torrent).collect();
        let places = Arc::new(Semaphore::new(parallel));
        let mut running = JoinSet::new();
        let start = Instant::now();
        for (length, torrent) in torrents {
            let place = places.clone().acquire_owned().await.unwrap();
            let session = session.clone();
            running.spawn(async move {
                let latency = fetch(&session, length, torrent, from).await;
                drop(place);
                latency
            });
        }
        let mut latencies = running.join_all().await;
        let seconds = start.elapsed().as_secs_f64();
        latencies.sort_unstable();
        session.stop().await;
        Fetched { seconds, latencies }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    fetched
}

fn torrent(info: &InfoDict) -> (u64, Vec<u8>) {
    let metainfo = Metainfo {
        info: info.clone(),
        trackers: vec![],
    };
    (info.length, metainfo.encode())
}

async fn fetch(
    session: &Arc<Session>,
    length: u64,
    torrent: Vec<u8>,
    from: SocketAddr,
) -> Duration {
    let start = Instant::now();
    let options = AddTorrentOptions {
        overwrite: true,
        initial_peers: Some(vec![from]),
        storage_factory: Some(crate::memory_storage::MemoryStorageFactory::boxed(length)),
        ..AddTorrentOptions::default()
    };
    let added = session.add_torrent(AddTorrent::from_bytes(torrent), Some(options));
    let handle = added.await.unwrap().into_handle().unwrap();
    let completed = tokio::time::timeout(PATIENCE, handle.wait_until_completed()).await;
    completed
        .unwrap_or_else(|_| panic!("{from} did not give all of {:?}", handle.info_hash()))
        .unwrap();
    let latency = start.elapsed();
    let id = TorrentIdOrHash::Hash(handle.info_hash());
    session.delete(id, false).await.unwrap();
    latency
}
