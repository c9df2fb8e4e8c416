//! `crowd` and `crowd-closure`: one origin and many agents that all want the same at once and know nobody else.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};

use crate::binary_cache::shim_url;
use crate::chroot_store::{ChrootStore, StoredPath};
use crate::content;
use crate::hosts::{Hosts, Link};
use crate::lab::{Mount, Place};
use crate::node_process::{Connection, NodeProcess};
use crate::random;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const ORIGIN_UP: f64 = 40.0;
const AGENT_UP: f64 = 20.0;
const DOWN: f64 = 100.0;
const CROWDS: [u8; 2] = [8, 16];
const ROUNDS: usize = 3;
const ORIGIN: u8 = 1;
const PORT: u16 = 6881;
const LARGE: u64 = 100_000_000;
const CLOSURE_PATHS: usize = 150;
const CLOSURE_BYTES: u64 = 300_000_000;
/// For the states of one round.
const MEMORY: &str = "size=3g";
/// As many NARs as Nix takes at a time, from 2.26 on.
const PARALLEL: usize = 16;

/// One NAR of 100 MB.
pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let mut store = ChrootStore::create(&place.path().join("store"));
    store.add("large", |place| random::write_file(place, 1, LARGE));
    crowds(&store, place.path(), "one incompressible NAR")
}

/// Many NARs with a heavy tail.
pub fn measure_closure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let store = content::closure(&place.path().join("store"), CLOSURE_PATHS, CLOSURE_BYTES);
    let what = format!("{CLOSURE_PATHS} NARs of package files, {PARALLEL} asked for at a time");
    crowds(&store, place.path(), &what)
}

fn crowds(store: &ChrootStore, place: &Path, what: &str) -> Value {
    let release = Release::publish(store, place);
    let payload: u64 = release.infos.iter().map(|info| info.length).sum();
    setting::print(
        "A crowd that wants the same at once",
        &[
            format!("content: {what}; payloads of {:.1} MB", payload as f64 / 1e6),
            format!("origin: a seedbox with the payload files, {ORIGIN_UP} Mbit/s up, {DOWN} down"),
            format!("agents: {AGENT_UP} Mbit/s up, {DOWN} down; they know the origin's address and nothing else; all ask in the same moment"),
            "states in memory: each machine has a disk of its own, these would share one".to_owned(),
            "bound: the best that any crowd could do, max(F/u_s, F/d, N F/(u_s + sum u)), headers not counted".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest); of each round the median agent counts, the last one stands beside"),
        ],
    );
    let mut table = Table::new([
        "agents",
        "bound s",
        "median s",
        "ratio",
        "last s",
        "copies from the origin",
        "duplicates",
    ]);
    let mut line = Value::Null;
    for n in CROWDS {
        let mut crowd = Crowd::default();
        for round in 0..ROUNDS {
            let place = place.join(format!("crowd-{n}-{round}"));
            std::fs::create_dir(&place).unwrap();
            let _memory = Mount::tmpfs(&place, MEMORY);
            crowd.run(n, &store.paths, &release, &place, payload);
        }
        let bound = bound(n, payload);
        let ratio = crowd.median.median() / bound;
        table.row([
            n.to_string(),
            format!("{bound:.1}"),
            format!("{:.1}", crowd.median),
            format!("{ratio:.2}"),
            format!("{:.1}", crowd.last),
            format!("{:.2}", crowd.copies),
            format!("{:.1} %", crowd.duplicates.median() * 100.0),
        ]);
        line = json!({
            "n": n,
            "ratio_to_bound": rounded(ratio, 2),
            "origin_copies": rounded(crowd.copies.median(), 2),
            "duplicate_share": rounded(crowd.duplicates.median(), 3),
        });
    }
    println!("{table}");
    line
}

/// Seconds.
fn bound(n: u8, payload: u64) -> f64 {
    let (n, megabits) = (f64::from(n), payload as f64 * 8.0 / 1e6);
    let crowd = n * megabits / (ORIGIN_UP + n * AGENT_UP);
    (megabits / ORIGIN_UP).max(megabits / DOWN).max(crowd)
}

#[derive(Default)]
struct Crowd {
    median: Runs,
    last: Runs,
    copies: Runs,
    duplicates: Runs,
}

impl Crowd {
    fn run(&mut self, n: u8, paths: &[StoredPath], release: &Release, place: &Path, payload: u64) {
        let link = |up| Link {
            up: Some(up),
            down: Some(DOWN),
            round_trip_ms: 0.0,
        };
        let mut links = vec![link(ORIGIN_UP)];
        links.resize(usize::from(n) + 1, link(AGENT_UP));
        let hosts = Hosts::new(&links);
        let peer = |host| SocketAddr::from((hosts.address(host), PORT));
        let swarm = |host, peers: &str| {
            format!(
                "[swarm]\nlisten = \"{}\"\nupload_limit = \"1GB/s\"\npeers = [{peers}]\ndht = false\nlsd = false\n{}",
                peer(host),
                release.channel()
            )
        };
        let origin = format!(
            "[hold]\nsource = \"payloads\"\nlocation = \"{}\"\n{}",
            release.payloads.display(),
            swarm(ORIGIN, "")
        );
        let state = place.join("origin");
        let origin = NodeProcess::start_at(&hosts.place(ORIGIN), "seedbox", &state, &origin);
        let agents: Vec<(Place, NodeProcess)> = (ORIGIN + 1..=n + ORIGIN)
            .map(|host| {
                let sections = format!(
                    "trusted_keys = [\"{}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{}",
                    release.narinfo_key.public(),
                    place.join("empty").display(),
                    swarm(host, &format!("\"{}\"", peer(ORIGIN)))
                );
                let (at, state) = (hosts.place(host), place.join(format!("agent-{host}")));
                let agent = NodeProcess::start_at(&at, "agent", &state, &sections);
                (at, agent)
            })
            .collect();

        let start = Instant::now();
        let seconds: Runs = thread::scope(|threads| {
            let asking: Vec<_> = agents
                .iter()
                .map(|(at, agent)| {
                    threads.spawn(move || {
                        at.run(|| fetch(paths, agent.shim));
                        start.elapsed().as_secs_f64()
                    })
                })
                .collect();
            asking
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        let uploaded = |node: &NodeProcess| {
            let status = node.wait(|_| true);
            status["bytes"]["uploaded"].as_f64().unwrap() / payload as f64
        };
        let copies = uploaded(&origin);
        let all = copies + agents.iter().map(|(_, agent)| uploaded(agent)).sum::<f64>();
        self.median.push(seconds.median());
        self.last.push(seconds.largest());
        self.copies.push(copies);
        self.duplicates.push((all - f64::from(n)) / all);
    }
}

/// As Nix: all narinfos, then the NARs.
fn fetch(paths: &[StoredPath], shim: SocketAddr) {
    let mut connection = Connection::open(shim);
    for path in paths {
        connection.get_and_forget(&format!("/{}.narinfo", path.store_path.hash_part()));
    }
    let next = AtomicUsize::new(0);
    let mut connections = vec![connection];
    connections.resize_with(PARALLEL.min(paths.len()), || Connection::open(shim));
    thread::scope(|threads| {
        for mut connection in connections {
            let next = &next;
            threads.spawn(move || {
                while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
                    connection.get_and_forget(&shim_url(path));
                }
            });
        }
    });
}
