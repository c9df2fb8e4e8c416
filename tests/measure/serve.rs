//! `serve`: installed paths over the shim, against nginx serving the same NARs as static files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use narswarm::nix::nar::Segment;
use narswarm::store::scan;
use serde_json::{Value, json};

use crate::binary_cache;
use crate::chroot_store::{ChrootStore, StoredPath};
use crate::lab::Place;
use crate::nginx::Nginx;
use crate::node_process::{Connection, NodeProcess, quiet_swarm};
use crate::packages;
use crate::random;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const SMALL: usize = 500;
const SMALL_SIZE: u64 = 200_000;
const LARGE: usize = 3;
const LARGE_SIZE: u64 = 500_000_000;
const CONNECTIONS: [usize; 3] = [1, 4, 16];
const ROUNDS: usize = 5;

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let mut store = ChrootStore::create(&at("store"));
    add_small(&mut store);
    for i in 0..LARGE {
        store.add(&format!("large-{i}"), |place| fill(place, i as u64));
    }
    let release = Release::publish(&store, place.path());
    binary_cache::write_shim_files(&store, &at("static"));
    setting::print(
        "Installed paths to Nix on the same machine",
        &[
            format!("content: {SMALL} NARs of {} kB (files of packages), {LARGE} of {} MB (two files each, incompressible); all in the page cache", SMALL_SIZE / 1000, LARGE_SIZE / 1_000_000),
            "ours: an agent with the paths installed and listed by a manifest, which makes each NAR out of the path's files".to_owned(),
            "theirs: nginx, one worker with sendfile, serving the NARs as ready files".to_owned(),
            "client of both: threads of this process, one connection each, kept open, that throw the bytes away; on loopback".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), each round both in turn; the ratio of the JSON line is the worst of its three"),
        ],
    );

    let key = release.narinfo_key.public();
    let sections = format!(
        "trusted_keys = [\"{key}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{}{}",
        store.root.display(),
        quiet_swarm("2MB/s"),
        release.channel()
    );
    let agent = NodeProcess::start("agent", &at("agent"), &sections);
    let address = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let nginx = Nginx::start(&at("static"), &at("nginx"), &Place::Here, address);
    let (small, large) = store.paths.split_at(SMALL);
    let mut figures: BTreeMap<(&str, usize), [Server; 2]> = BTreeMap::new();
    // What is read for the first time is hashed as well; after that it is known.
    let mut first = BTreeMap::new();
    for (what, paths) in [(SMALL_NARS, small), (LARGE_NARS, large)] {
        first.insert(what, fetch(paths, agent.shim, 1));
        fetch(paths, nginx.address, 1);
    }
    for _ in 0..ROUNDS {
        for connections in CONNECTIONS {
            for (what, paths) in [(SMALL_NARS, small), (LARGE_NARS, large)] {
                let [ours, theirs] = figures.entry((what, connections)).or_default();
                ours.run(paths, agent.shim, connections, || agent.cpu());
                theirs.run(paths, nginx.address, connections, || nginx.cpu());
            }
        }
    }

    let mut table = Table::new([
        "",
        "connections",
        "agent MB/s",
        "nginx MB/s",
        "ratio",
        "agent CPU s/GB",
        "nginx CPU s/GB",
    ]);
    let mut worst = BTreeMap::new();
    for ((what, connections), [ours, theirs]) in &figures {
        let ratio = ours.speed.median() / theirs.speed.median();
        let so_far = worst.entry(*what).or_insert(ratio);
        *so_far = ratio.min(*so_far);
        table.row([
            (*what).to_owned(),
            connections.to_string(),
            format!("{:.0}", ours.speed),
            format!("{:.0}", theirs.speed),
            format!("{ratio:.2}"),
            format!("{:.2}", ours.cpu),
            format!("{:.2}", theirs.cpu),
        ]);
    }
    println!("{table}");
    for (what, speed) in first {
        println!("The agent's first time, one connection, {what}: {speed:.0} MB/s");
    }
    // Where the rest goes: nginx opens one file for each NAR, whoever makes it out of its files opens them all.
    let files = files_of(&store, small);
    let alone: Runs = (0..ROUNDS).map(|_| read(&files, small)).collect();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let bounds = CONNECTIONS.map(|connections| {
        let nginx = figures[&(SMALL_NARS, connections)][1].speed.median();
        let reading = alone.median() * connections.min(cores) as f64;
        format!("{:.2}", reading / (reading + nginx))
    });
    println!(
        "One thread that only opens, reads and closes the {} files of the small ones: {alone:.0} MB/s of NARs. \
         If nginx had to do that first, its ratio would be {} at {CONNECTIONS:?} connections on {cores} cores.\n",
        files.len(),
        bounds.join(", "),
    );
    json!({
        "ratio_vs_nginx_small": rounded(worst[SMALL_NARS], 2),
        "ratio_vs_nginx_large": rounded(worst[LARGE_NARS], 2),
    })
}

const SMALL_NARS: &str = "small";
const LARGE_NARS: &str = "large";

#[derive(Default)]
struct Server {
    /// MB per second.
    speed: Runs,
    /// The server's own, seconds per GB.
    cpu: Runs,
}

impl Server {
    fn run(
        &mut self,
        paths: &[StoredPath],
        from: SocketAddr,
        connections: usize,
        cpu: impl Fn() -> f64,
    ) {
        let before = cpu();
        self.speed.push(fetch(paths, from, connections));
        let bytes: u64 = paths.iter().map(|path| path.nar_size).sum();
        self.cpu.push((cpu() - before) * 1e9 / bytes as f64);
    }
}

/// MB per second of all NARs over so many connections.
fn fetch(paths: &[StoredPath], from: SocketAddr, connections: usize) -> f64 {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut connection = Connection::open(from);
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            let length = connection.get_and_forget(&binary_cache::shim_url(path));
            assert_eq!(length, path.nar_size);
        }
    };
    let start = Instant::now();
    thread::scope(|threads| {
        for _ in 0..connections {
            threads.spawn(work);
        }
    });
    let bytes: u64 = paths.iter().map(|path| path.nar_size).sum();
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn files_of(store: &ChrootStore, paths: &[StoredPath]) -> Vec<PathBuf> {
    let layouts = paths.iter().map(|path| {
        let name = path.store_path.base_name();
        scan(&store.root.join("nix/store").join(name)).unwrap()
    });
    let files = layouts.flat_map(|layout| {
        let segments = layout.segments_in(0..layout.size());
        let files = segments.filter_map(|segment| match segment {
            Segment::File { file, .. } => Some(layout.file_path(file)),
            Segment::Literal(_) => None,
        });
        files.collect::<Vec<_>>()
    });
    files.collect()
}

/// MB per second of the NARs that are made of these files.
fn read(files: &[PathBuf], nars: &[StoredPath]) -> f64 {
    let mut buffer = vec![0; SMALL_SIZE as usize];
    let start = Instant::now();
    for path in files {
        assert!(File::open(path).unwrap().read(&mut buffer).unwrap() > 0);
    }
    let bytes: u64 = nars.iter().map(|path| path.nar_size).sum();
    bytes as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn add_small(store: &mut ChrootStore) {
    let mut files = packages::files(1, SMALL_SIZE / 2);
    for i in 0..SMALL {
        store.add(&format!("small-{i}"), |place| {
            let mut left = SMALL_SIZE;
            while left > 0 {
                let path = files.next().expect("too few files in Debian packages");
                let mut content = fs::read(&path).unwrap_or_default();
                content.truncate(left as usize);
                left -= content.len() as u64;
                let directory = place.join(["bin", "lib", "share"][left as usize % 3]);
                fs::create_dir_all(&directory).unwrap();
                fs::write(directory.join(path.file_name().unwrap()), content).unwrap();
            }
        });
    }
}

fn fill(place: &Path, seed: u64) {
    fs::create_dir(place).unwrap();
    for name in ["one", "other"] {
        random::write_file(&place.join(name), seed, LARGE_SIZE / 2);
    }
}
