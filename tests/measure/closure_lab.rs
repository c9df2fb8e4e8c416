//! What `closure` and `never-slower` share: a closure, published and as a binary cache, and five hosts: a client behind
//! a link of its own, a seedbox, two agents that have the closure installed, and nginx.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use narswarm::nix::StoreDir;
use serde_json::Value;

use crate::binary_cache;
use crate::chroot_store::ChrootStore;
use crate::content;
use crate::hosts::{Hosts, Link};
use crate::lab::Place;
use crate::link_meter::LinkUse;
use crate::nginx::Nginx;
use crate::nix_client::{NixClient, Realised};
use crate::nix_copy::Compression;
use crate::node_process::NodeProcess;
use crate::release::Release;

pub const PATHS: usize = 150;
const BYTES: u64 = 300_000_000;
pub const RATE_MBIT: f64 = 50.0;
pub const ROUND_TRIP_MS: f64 = 30.0;

pub const CLIENT: u8 = 1;
pub const SEEDBOX: u8 = 2;
pub const AGENTS: [u8; 2] = [3, 4];
const NGINX: u8 = 5;
const HOSTS: usize = 5;
pub const PEER_PORT: u16 = 6881;

pub struct ClosureLab {
    // Goes away before the directory.
    pub hosts: Hosts,
    pub nix: NixClient,
    pub store: ChrootStore,
    pub release: Release,
    place: tempfile::TempDir,
    runs: u32,
}

/// One closure fetched by Nix.
pub struct Run {
    pub nix: Realised,
    /// The client's.
    pub link: LinkUse,
    /// The client's agent at the end, if there was one: its status and its CPU seconds.
    pub agent: Option<(Value, f64)>,
}

impl ClosureLab {
    pub fn new() -> Self {
        let client = Link {
            up: Some(RATE_MBIT),
            down: Some(RATE_MBIT),
            round_trip_ms: ROUND_TRIP_MS,
        };
        let mut links = [Link::default(); HOSTS];
        links[usize::from(CLIENT) - 1] = client;
        let hosts = Hosts::new(&links);
        let place = tempfile::tempdir().unwrap();
        let nix = NixClient::new(&place.path().join("nix"));
        let store = content::closure(&place.path().join("store"), PATHS, BYTES);
        let release = Release::publish(&store, place.path());
        Self {
            hosts,
            nix,
            store,
            release,
            place,
            runs: 0,
        }
    }

    /// NAR bytes.
    pub fn bytes(&self) -> u64 {
        self.store.paths.iter().map(|path| path.nar_size).sum()
    }

    /// Writes the closure as a binary cache; returns its place and the bytes of its NAR files.
    pub fn cache(&self, compression: Compression) -> (PathBuf, u64) {
        let directory = self.place.path().join(compression.uri_value());
        let key = &self.release.narinfo_key;
        let bytes = binary_cache::write(&self.store, key, compression, &directory);
        (directory, bytes)
    }

    /// Writes the info dicts into a directory, named after their hashes.
    pub fn info_dicts(&self) -> PathBuf {
        let directory = self.place.path().join("infos");
        fs::create_dir_all(&directory).unwrap();
        for info in &self.release.infos {
            fs::write(directory.join(info.info_hash().to_string()), info.encode()).unwrap();
        }
        directory
    }

    pub fn nginx(&self, root: &Path, port: u16) -> Nginx {
        let address = SocketAddr::from((self.hosts.address(NGINX), port));
        let work = self.place.path().join(format!("nginx-{port}"));
        Nginx::start(root, &work, &self.hosts.place(NGINX), address)
    }

    /// A seedbox with the payload files.
    pub fn seedbox(&mut self, upload_limit: &str) -> NodeProcess {
        let sections = format!(
            "[hold]\nsource = \"payloads\"\nlocation = \"{}\"\n{}{}",
            self.release.payloads.display(),
            self.swarm(SEEDBOX, upload_limit, &[]),
            self.release.channel()
        );
        let state = self.state();
        NodeProcess::start_at(&self.hosts.place(SEEDBOX), "seedbox", &state, &sections)
    }

    /// An agent that has everything installed.
    pub fn installed_agent(&mut self, host: u8) -> NodeProcess {
        let sections = format!(
            "[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{}{}",
            self.store.root.display(),
            self.swarm(host, "10GB/s", &[]),
            self.release.channel()
        );
        let state = self.state();
        NodeProcess::start_at(&self.hosts.place(host), "agent", &state, &sections)
    }

    /// Nix on the client's host, straight from a cache.
    pub fn plain(&mut self, cache: &Nginx) -> Run {
        self.run(&cache.url(), None)
    }

    /// The same through an agent that knows nothing yet but `peers` and one upstream.
    pub fn through_agent(&mut self, peers: &[SocketAddr], upstream: &Nginx) -> Run {
        let empty = self.place.path().join("empty");
        let key = self.release.narinfo_key.public();
        let sections = format!(
            "trusted_keys = [\"{key}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n\
             [[upstream]]\nurl = \"{}\"\nkeys = [\"{key}\"]\n{}{}",
            empty.display(),
            upstream.url(),
            self.swarm(CLIENT, "2MB/s", peers),
            self.release.channel()
        );
        let (place, state) = (self.hosts.place(CLIENT), self.state());
        let agent = NodeProcess::start_at(&place, "agent", &state, &sections);
        self.run(&format!("http://{}", agent.shim), Some(&agent))
    }

    fn run(&mut self, substituter: &str, agent: Option<&NodeProcess>) -> Run {
        let top = self.store.paths.last().unwrap();
        let top = top.store_path.full(&StoreDir::default());
        let key = self.release.narinfo_key.public().to_string();
        let place: Place = self.hosts.place(CLIENT);
        self.nix.remove_store();
        let realise = || self.nix.realise(&place, &top, substituter, &key);
        let (nix, link) = self.hosts.watch(CLIENT, RATE_MBIT, realise);
        let agent = agent.map(|agent| (agent.wait(|_| true), agent.cpu()));
        Run { nix, link, agent }
    }

    pub fn peer(&self, host: u8) -> SocketAddr {
        (self.hosts.address(host), PEER_PORT).into()
    }

    fn swarm(&self, host: u8, upload_limit: &str, peers: &[SocketAddr]) -> String {
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
        format!(
            "[swarm]\nlisten = \"{}\"\nupload_limit = \"{upload_limit}\"\npeers = [{}]\ndht = false\nlsd = false\n",
            self.peer(host),
            peers.join(", ")
        )
    }

    /// A directory that nobody used before.
    fn state(&mut self) -> PathBuf {
        self.runs += 1;
        self.place.path().join(format!("state-{}", self.runs))
    }
}
