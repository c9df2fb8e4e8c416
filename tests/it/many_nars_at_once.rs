//! Nix opens 25 connections: hundreds of small NARs and a huge one among them all arrive, each downloaded once, and the
//! agent stays small.

use std::{
    fs::{self, File},
    io::{BufWriter, Write as _},
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use narswarm::nix::NarHash;
use sha2::{Digest, Sha256};

use crate::lab::{
    Closure, InstalledPath, Keys, Need, Nix, Node, NodeConfig, Release, Scratch, get,
};

const CONNECTIONS: usize = 25;
const SMALL: usize = 300;
/// 20 MB of /usr each: paths with real content but without references.
const LARGE_BYTES: u64 = 300_000_000;
/// The agent's memory at its worst: 25 NARs under way with a frame of 4 MiB each, raw and compressed, and what the
/// engine needs for 25 downloads. Far below what the NARs have together.
const MEMORY: u64 = 300_000_000;

/// `SMALL` paths of up to 100 kB and one of `LARGE_BYTES`, cut out of a stream of real files.
fn store(nix: &Nix) -> Vec<InstalledPath> {
    let content = nix.work().join("content");
    fs::create_dir(&content).unwrap();
    let mut source = RealBytes::new(Closure::large());
    let mut names: Vec<String> = Vec::new();
    for number in 0..SMALL {
        let name = content.join(format!("small-{number}"));
        source.write(&name, 500 + (number as u64 * 331) % 100_000);
        names.push(name.to_str().unwrap().to_owned());
    }
    let large = content.join("large");
    source.write(&large, LARGE_BYTES);
    names.push(large.to_str().unwrap().to_owned());
    let arguments: Vec<&str> = ["--add"]
        .into_iter()
        .chain(names.iter().map(String::as_str))
        .collect();
    let paths = nix.on_store("nix-store", &arguments);
    let paths: Vec<&str> = paths.lines().collect();
    Closure::read_all(nix, nix.root(), &paths).paths
}

/// The files of a closure one after the other, again and again, with a number before each round.
struct RealBytes {
    files: Vec<Vec<u8>>,
    at: usize,
    rounds: u64,
}

impl RealBytes {
    fn new(closure: &Closure) -> Self {
        let mut files = Vec::new();
        for path in &closure.paths[..16] {
            let mut directories = vec![closure.root.join(path.store_path.trim_start_matches('/'))];
            while let Some(directory) = directories.pop() {
                for entry in fs::read_dir(directory).unwrap().flatten() {
                    match entry.file_type().unwrap() {
                        kind if kind.is_dir() => directories.push(entry.path()),
                        kind if kind.is_file() => files.push(fs::read(entry.path()).unwrap()),
                        _ => {}
                    }
                }
            }
        }
        Self {
            files,
            at: 0,
            rounds: 0,
        }
    }

    fn write(&mut self, path: &Path, mut length: u64) {
        let mut file = BufWriter::new(File::create(path).unwrap());
        writeln!(file, "{}", path.display()).unwrap();
        while length > 0 {
            let bytes = &self.files[self.at % self.files.len()];
            let taken = bytes.len().min(length as usize);
            file.write_all(&bytes[..taken]).unwrap();
            write!(file, "{}", self.rounds).unwrap();
            length -= taken as u64;
            self.at += 1;
            self.rounds += 1;
        }
    }
}

fn check(path: &InstalledPath, body: &[u8]) {
    assert_eq!(body.len() as u64, path.nar_size, "{}", path.store_path);
    assert_eq!(
        NarHash::from_bytes(Sha256::digest(body).into()),
        path.nar_hash,
        "{}",
        path.store_path
    );
}

#[test]
fn all_arrive_once_and_in_bounded_memory() {
    if !Need::all("all_arrive_once_and_in_bounded_memory", &[Need::NIX]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let paths = store(&nix);
    assert_eq!(paths.len(), SMALL + 1);
    let closure = Closure {
        root: nix.root(),
        top: paths[0].store_path.clone(),
        paths,
    };
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let release = Release {
        paths: closure
            .paths
            .iter()
            .map(|path| path.store_path.clone())
            .collect(),
        ..Release::of(&closure, &keys, scratch.path("release"))
    };
    let publication = release.publish();
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication));
    seedbox.wait_for_offer(closure.paths.len());
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .peer(seedbox.peer);
    let agent = Node::start(&agent);

    // The large one first, asked for twice, the small ones beside it.
    let mut order: Vec<&InstalledPath> = closure.paths.iter().collect();
    order.sort_by_key(|path| std::cmp::Reverse(path.nar_size));
    let large = order[0];
    assert!(large.nar_size >= LARGE_BYTES);
    order.insert(0, large);
    let next = AtomicUsize::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                while let Some(path) = order.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let narinfo = get(agent.shim, &path.narinfo());
                    assert_eq!(narinfo.status, 200, "{}", path.store_path);
                    let nar = get(agent.shim, &path.nar());
                    assert_eq!(nar.status, 200, "{}", path.store_path);
                    check(path, &nar.body);
                }
            });
        }
    });
    println!("{} NARs in {:?}", order.len(), start.elapsed());

    let memory = agent.peak_memory();
    println!(
        "agent: {memory} bytes, seedbox: {} bytes",
        seedbox.peak_memory()
    );
    assert!(memory < MEMORY, "{memory}");
    let payloads = publication.number("payload_bytes");
    let uploaded = seedbox.bytes("uploaded");
    println!("{uploaded} bytes uploaded of {payloads}");
    assert!(
        uploaded >= payloads && uploaded <= payloads * 11 / 10,
        "{uploaded} of {payloads}"
    );
    let status = agent.status();
    assert_eq!(
        status["bytes"]["swarm"],
        closure.nar_bytes() + large.nar_size
    );
    assert_eq!(status["errors"].as_array().unwrap().len(), 0, "{status}");
    agent.wait("end of all downloads", |status| {
        status["downloads"].as_array().unwrap().is_empty()
    });
}
