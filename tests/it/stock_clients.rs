//! Any BitTorrent client fetches our payloads from our seeder, and our agent fetches what only such a client seeds: by
//! magnet link, by .torrent, after a kill in the middle, two of them at once.

use std::{
    collections::HashSet, fs, net::SocketAddr, panic::catch_unwind, path::PathBuf, thread,
    time::Duration,
};

use crate::lab::{
    Hosts, LoneNar, Need, Node, NodeConfig, PORT, RawPeer, Stock, StockClient, narswarm,
    request_in, wait_for,
};

const SIZE: u64 = 6_000_000;
/// From the half to the end there are 3 s to kill the downloader.
const SLOW: &str = "1MB/s";
const FAST: &str = "1GB/s";
/// Bytes in headers, handshakes and gossip beside 6 MB of payload, with room to spare.
const OVERHEAD: u64 = 500_000;
/// A client first checks its file, and transmission lets 10 s pass between its looks at who may download.
const PATIENCE: Duration = Duration::from_secs(120);
/// The origin's host, and those that download from it.
const ORIGIN: u8 = 1;
const OTHERS: [u8; 2] = [2, 3];

/// One payload, and hosts for those that have it and those that want it.
struct Scene {
    client: Stock,
    hosts: Hosts,
    lone: LoneNar,
}

impl Scene {
    fn new(test: &str, client: Stock) -> Option<Self> {
        if !Need::all(test, &[Need::Namespaces]) || !client.is_here(test) {
            return None;
        }
        Some(Self {
            client,
            lone: LoneNar::new(test, SIZE)?,
            hosts: Hosts::new(3),
        })
    }

    fn seeder(&self, limit: &str) -> Node {
        let seeder = self
            .lone
            .seedbox("seedbox")
            .listen(self.hosts.address(ORIGIN));
        let seeder = Node::start_in(&self.hosts.place(ORIGIN), &seeder.upload_limit(limit));
        seeder.wait_for_offer(1);
        seeder
    }

    /// The magnet link and the .torrent, as a person makes them, with `tracker`.
    fn links(&self, tracker: &str) -> (String, String) {
        let path = self.lone.file();
        let torrent = self
            .lone
            .scratch
            .path("payload.torrent")
            .display()
            .to_string();
        let path = path.to_str().unwrap();
        let made = narswarm(["torrent", path, "-o", &torrent, "--tracker", tracker]).success();
        (made.stdout.trim().to_owned(), torrent)
    }

    /// A client on host `k`, with a directory of its own.
    fn client(&self, k: u8, link: &str) -> StockClient {
        self.client
            .start(&self.hosts.place(k), link, &self.directory(k))
    }

    fn directory(&self, k: u8) -> PathBuf {
        self.lone.scratch.path(&format!("files-{k}"))
    }

    /// A client on host `k` that has the payload already.
    fn seeding_client(&self, k: u8) -> StockClient {
        let (_, torrent) = self.links("http://10.77.0.250/nobody");
        let (directory, payload) = (self.directory(k), &self.lone.payload);
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(&payload.info.name), &**payload.bytes).unwrap();
        self.client(k, &torrent)
    }

    /// An agent on the origin's host that has nothing, and knows the clients on these hosts.
    fn agent(&self, hosts: &[u8]) -> NodeConfig {
        let agent = self.lone.agent("agent").listen(self.hosts.address(ORIGIN));
        let peers = hosts.iter().map(|k| (self.hosts.address(*k), PORT).into());
        peers.fold(agent, NodeConfig::peer)
    }

    fn start(&self, agent: &NodeConfig) -> Node {
        Node::start_in(&self.hosts.place(ORIGIN), agent)
    }

    /// Until the agent has the NAR: right and whole, and not from elsewhere.
    fn wait_for_nar(&self, agent: &Node) {
        let nar = wait_for("NAR from the client", PATIENCE, || {
            Some(agent.get(&self.lone.path().nar())).filter(|response| response.status == 200)
        });
        assert!(nar.body == self.lone.bytes, "{} bytes", nar.body.len());
        assert_eq!(agent.bytes("swarm"), self.lone.path().nar_size);
    }

    /// Bytes of finished pieces in the agent's unfinished download.
    fn kept(&self) -> u64 {
        let info = &self.lone.payload.info;
        let cache = self.lone.scratch.path("agent").join("cache");
        let log = fs::read(cache.join(format!("{}.have", info.info_hash()))).unwrap();
        let pieces = log
            .chunks_exact(4)
            .map(|piece| u32::from_be_bytes(piece.try_into().unwrap()));
        let pieces: HashSet<u32> = pieces.collect();
        pieces
            .into_iter()
            .map(|piece| u64::from(info.piece_len(piece)))
            .sum()
    }

    /// Bytes that came to the origin's host.
    fn received(&self) -> u64 {
        self.counted(ORIGIN, "rx_bytes")
    }

    /// Bytes that host `k` sent.
    fn sent(&self, k: u8) -> u64 {
        self.counted(k, "tx_bytes")
    }

    fn counted(&self, k: u8, counter: &str) -> u64 {
        let counter = format!("/sys/class/net/eth0/statistics/{counter}");
        let count = self.hosts.run(k, "cat", &[&counter]);
        count.trim().parse().unwrap()
    }

    /// Host `k` sends no faster than this from now on.
    fn slow_down(&self, k: u8, rate: &str) {
        let shaping = format!("qdisc add dev eth0 root tbf rate {rate} burst 32k latency 100ms");
        let words: Vec<&str> = shaping.split(' ').collect();
        self.hosts.run(k, "tc", &words);
    }

    /// Until the client on host `k` says that it has everything: before, it would hang up on an agent, which comes again
    /// much later.
    fn wait_for_seed(&self, k: u8) {
        let address = SocketAddr::new(self.hosts.address(k), PORT);
        let (place, ours) = (self.hosts.place(ORIGIN), self.hosts.address(ORIGIN));
        let info = &self.lone.payload.info;
        let whole = || RawPeer::meet(ours, address, &info.info_hash())?.has_everything(info);
        wait_for("client that has everything", PATIENCE, || {
            place.run(whole).unwrap_or(false).then_some(())
        });
    }
}

fn tracker_of(seeder: &Node) -> String {
    format!("http://{}/announce", seeder.peer)
}

fn downloads_by_magnet(test: &str, client: Stock) {
    let Some(scene) = Scene::new(test, client) else {
        return;
    };
    let seeder = scene.seeder(FAST);
    let (magnet, _) = scene.links(&tracker_of(&seeder));
    scene
        .client(OTHERS[0], &magnet)
        .wait_for(&scene.lone.payload);
}

fn two_download_by_torrent(test: &str, client: Stock) {
    let Some(scene) = Scene::new(test, client) else {
        return;
    };
    let seeder = scene.seeder(FAST);
    let (_, torrent) = scene.links(&tracker_of(&seeder));
    let clients = OTHERS.map(|k| scene.client(k, &torrent));
    clients
        .iter()
        .for_each(|client| client.wait_for(&scene.lone.payload));
    let (uploaded, length) = (seeder.bytes("uploaded"), scene.lone.payload.info.length);
    assert!(uploaded <= 2 * length, "{uploaded} of {length}");
}

fn resumes_after_half(test: &str, client: Stock) {
    let Some(scene) = Scene::new(test, client) else {
        return;
    };
    let seeder = scene.seeder(SLOW);
    let (_, torrent) = scene.links(&tracker_of(&seeder));
    let (payload, half) = (&scene.lone.payload, scene.lone.payload.info.length / 2);
    let client = scene.client(OTHERS[0], &torrent);
    wait_for("half of it", PATIENCE, || {
        (seeder.bytes("uploaded") >= half).then_some(())
    });
    let kept = client.kill(payload);
    assert!(kept > half / 2, "{kept} bytes were on disk");
    seeder.wait("end of the upload", |status| {
        status["swarm"]["uploading_to"] == 0
    });
    let before = seeder.bytes("uploaded");
    scene.client(OTHERS[0], &torrent).wait_for(payload);
    let again = seeder.bytes("uploaded") - before;
    assert_eq!(
        again,
        payload.info.length - kept,
        "what was on disk is not asked for again"
    );
}

fn an_agent_downloads_from_two(test: &str, client: Stock) {
    let Some(scene) = Scene::new(test, client) else {
        return;
    };
    let _clients = OTHERS.map(|k| scene.seeding_client(k));
    for k in OTHERS {
        // Alone it would take 24 s: long enough for the slower one to look at who may download.
        scene.slow_down(k, "2mbit");
        scene.wait_for_seed(k);
    }
    let agent = scene.start(&scene.agent(&OTHERS));
    scene.wait_for_nar(&agent);
    let (sent, length) = (
        OTHERS.map(|k| scene.sent(k)),
        scene.lone.payload.info.length,
    );
    // One of two transmissions often lets the agent wait until the other has given everything: then both were met.
    let least = match client {
        Stock::Transmission => 1,
        _ => OTHERS.len(),
    };
    agent.wait("both that answer", |status| {
        status["swarm"]["reachable"] == OTHERS.len()
    });
    let gave = sent.iter().filter(|sent| **sent > length / 10).count();
    assert!(gave >= least, "{sent:?} of {length}");
}

fn an_agent_resumes_after_half(test: &str, client: Stock) {
    let Some(scene) = Scene::new(test, client) else {
        return;
    };
    let _client = scene.seeding_client(OTHERS[0]);
    scene.slow_down(OTHERS[0], "8mbit");
    let config = scene.agent(&OTHERS[..1]);
    let agent = scene.start(&config);
    let (shim, nar, place) = (
        agent.shim,
        scene.lone.path().nar(),
        scene.hosts.place(ORIGIN),
    );
    // Until the client has checked its file, nobody has the NAR; then the kill cuts it off.
    let ask = move || request_in(&place, shim, "GET", &nar, &[]).status;
    let asking = thread::spawn(move || while matches!(catch_unwind(&ask), Ok(404)) {});
    let info = &scene.lone.payload.info;
    wait_for("half of it", PATIENCE, || {
        (scene.received() >= info.length / 2).then_some(())
    });
    agent.kill();
    let _ = asking.join();
    let (kept, before) = (scene.kept(), scene.received());
    assert!(kept > info.length / 4, "{kept} bytes were on disk");
    scene.wait_for_nar(&scene.start(&config));
    let again = scene.received() - before;
    assert!(
        again <= info.length - kept + OVERHEAD,
        "{again}, but {kept} were on disk"
    );
}

macro_rules! promises {
    ($($name:ident: $client:ident),*) => {
        $(mod $name {
            use super::*;

            promises!(@ $name $client downloads_by_magnet two_download_by_torrent resumes_after_half
                an_agent_downloads_from_two an_agent_resumes_after_half);
        })*
    };
    (@ $name:ident $client:ident $($promise:ident)*) => {
        $(#[test]
        fn $promise() {
            let test = concat!(stringify!($name), " ", stringify!($promise));
            super::$promise(test, Stock::$client);
        })*
    };
}

promises!(aria2: Aria2, transmission: Transmission, libtorrent: Libtorrent, librqbit: Librqbit);
