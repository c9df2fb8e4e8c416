//! `long-link`: one seeder far away, and how fast an agent takes a payload from it, against aria2 from the same seeder.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use narswarm::torrent::Metainfo;
use serde_json::{Value, json};

use crate::binary_cache::shim_url;
use crate::chroot_store::ChrootStore;
use crate::fixed_tracker::FIXED_TRACKER;
use crate::hosts::{Hosts, Link};
use crate::lab::Place;
use crate::need;
use crate::node_process::{Connection, NodeProcess};
use crate::random;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::started::Started;
use crate::table::Table;

const RATE_MBIT: f64 = 100.0;
const ROUND_TRIP_MS: f64 = 60.0;
const SIZE: u64 = 150_000_000;
const ROUNDS: usize = 3;
const SEEDER: u8 = 1;
const DOWNLOADER: u8 = 2;
const PORT: u16 = 6881;
const TRACKER_PORT: u16 = 6969;

pub fn measure() -> Value {
    need::program("aria2c", "aria2");
    let near = Link::default();
    let far = Link {
        up: Some(RATE_MBIT),
        down: Some(RATE_MBIT),
        round_trip_ms: ROUND_TRIP_MS,
    };
    let hosts = Hosts::new(&[near, far]);
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let mut store = ChrootStore::create(&at("store"));
    store.add("large", |place| random::write_file(place, 1, SIZE));
    let release = Release::publish(&store, place.path());
    setting::print(
        "One download from far away",
        &[
            format!("link: {RATE_MBIT} Mbit/s, {ROUND_TRIP_MS} ms round trip; a payload of {:.0} MB", SIZE as f64 / 1e6),
            "seeder of both: a seedbox with the payload file".to_owned(),
            "ours: an agent that knows the seeder, asked for the NAR over the shim; theirs: aria2c with the .torrent".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), both in turn, from the question to the last byte"),
        ],
    );

    let peer = SocketAddr::from((hosts.address(SEEDER), PORT));
    let swarm = |listen: SocketAddr, peers: &str| {
        format!(
            "[swarm]\nlisten = \"{listen}\"\nupload_limit = \"1GB/s\"\npeers = [{peers}]\ndht = false\nlsd = false\n{}",
            release.channel()
        )
    };
    let seedbox = format!(
        "[hold]\nsource = \"payloads\"\nlocation = \"{}\"\n{}",
        release.payloads.display(),
        swarm(peer, "")
    );
    let seeder = hosts.place(SEEDER);
    let _seedbox = NodeProcess::start_at(&seeder, "seedbox", &at("seedbox"), &seedbox);
    let tracker = SocketAddr::from((hosts.address(SEEDER), TRACKER_PORT));
    let arguments = [FIXED_TRACKER, &tracker.to_string(), &peer.to_string()];
    let _tracker = Started::ourselves(&seeder, &arguments);
    let metainfo = Metainfo {
        info: release.infos[0].clone(),
        trackers: vec![format!("http://{tracker}/announce")],
    };
    fs::write(at("large.torrent"), metainfo.encode()).unwrap();

    let here = hosts.place(DOWNLOADER);
    let (mut ours, mut theirs) = (Runs::default(), Runs::default());
    for round in 0..ROUNDS {
        let listen = SocketAddr::from((hosts.address(DOWNLOADER), PORT));
        let sections = format!(
            "trusted_keys = [\"{}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{}",
            release.narinfo_key.public(),
            at("empty").display(),
            swarm(listen, &format!("\"{peer}\""))
        );
        let agent =
            NodeProcess::start_at(&here, "agent", &at(&format!("agent-{round}")), &sections);
        let start = Instant::now();
        here.run(|| Connection::open(agent.shim).get_and_forget(&shim_url(&store.paths[0])));
        ours.push(SIZE as f64 / 1e6 / start.elapsed().as_secs_f64());
        drop(agent);
        let seconds = aria2(&here, &at("large.torrent"), &at(&format!("aria2-{round}")));
        theirs.push(SIZE as f64 / 1e6 / seconds);
    }

    let ratio = ours.median() / theirs.median();
    let mut table = Table::new(["downloader", "MB/s", "of the link"]);
    for (name, runs) in [("narswarm agent", &ours), ("aria2", &theirs)] {
        let share = runs.median() * 8.0 / RATE_MBIT * 100.0;
        table.row([
            name.to_owned(),
            format!("{runs:.2}"),
            format!("{share:.0} %"),
        ]);
    }
    println!("{table}");
    json!({ "ratio_vs_aria2": rounded(ratio, 2) })
}

/// Seconds until it has seeded for no time and ends.
fn aria2(at: &Place, torrent: &Path, directory: &Path) -> f64 {
    let mut command = at.command("aria2c");
    command
        .args([
            "--no-conf",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
        ])
        .args([
            "--file-allocation=none",
            "--summary-interval=0",
            "--listen-port=6899",
            "--seed-time=0",
        ])
        .arg("--dir")
        .arg(directory)
        .arg(torrent)
        .stdout(Stdio::null());
    let start = Instant::now();
    let status = command.status().unwrap();
    assert!(status.success(), "aria2 did not finish");
    start.elapsed().as_secs_f64()
}
