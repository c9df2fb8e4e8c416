//! `first-byte`: from Nix's request for a small NAR to the first byte of the answer, the holder being far away.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::chroot_store::StoredPath;
use crate::hosts::{Hosts, Link};
use crate::node_process::NodeProcess;
use crate::publisher::{Publisher, agent_sections};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const ROUND_TRIP_MS: f64 = 30.0;
const PAYLOAD: usize = 10_000;
const SAMPLES: usize = 15;
const PORT: u16 = 6881;
/// Between narinfo and NAR, as when Nix has asked for other narinfos: the info dict has come.
const LATER: Duration = Duration::from_millis(500);

pub fn measure() -> Value {
    let delayed = Link {
        round_trip_ms: ROUND_TRIP_MS,
        ..Link::default()
    };
    let hosts = Hosts::new(&[delayed, Link::default()]);
    let place = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new(place.path(), 2 * SAMPLES, PAYLOAD);
    setting::print(
        &format!("The first byte of a NAR of {PAYLOAD} bytes over {ROUND_TRIP_MS} ms"),
        &[
            "one seedbox has it, re-created from its store; the agent is its neighbour, and nothing else has been fetched".to_owned(),
            format!("{SAMPLES} paths each: the NAR is asked {LATER:?} after its narinfo, or as soon as that was answered"),
        ],
    );
    let address = |k: u8| SocketAddr::from((hosts.address(k), PORT));
    let swarm = |k: u8| {
        format!(
            "[swarm]\nlisten = \"{}\"\nupload_limit = \"1GB/s\"\ndht = false\nlsd = false\n",
            address(k)
        )
    };
    let first = publisher.publish(2 * SAMPLES, &address(2).to_string());
    let link = first.text("link").to_owned();
    let (hold, channel) = publisher.seedbox();
    let sections = hold + &swarm(2) + &channel;
    let seedbox = NodeProcess::start_at(
        &hosts.place(2),
        "seedbox",
        &place.path().join("seedbox"),
        &sections,
    );
    seedbox.wait(|status| status["offer"]["paths"] == 2 * SAMPLES);
    let sections = agent_sections(place.path(), &link, &publisher.keys.narinfo, &swarm(1));
    let agent = NodeProcess::start_at(
        &hosts.place(1),
        "agent",
        &place.path().join("agent"),
        &sections,
    );
    agent.wait(|status| {
        status["channels"][0]["sequence"] == 1 && status["swarm"]["neighbours"] == 1
    });
    // Its have-map has come.
    thread::sleep(Duration::from_secs(5));

    let (known, unknown) = publisher.store.paths.split_at(SAMPLES);
    let sample = |path: &StoredPath, later: Duration| {
        hosts.place(1).run(|| {
            let hash_part = path.store_path.hash_part();
            let (status, _) = agent.connect().get(&format!("/{hash_part}.narinfo"));
            assert_eq!(status, 200);
            thread::sleep(later);
            first_byte_ms(
                agent.shim,
                &format!("/nar/{hash_part}-{}.nar", path.nar_hash.base32()),
            )
        })
    };
    let known: Runs = known.iter().map(|path| sample(path, LATER)).collect();
    let unknown: Runs = unknown
        .iter()
        .map(|path| sample(path, Duration::ZERO))
        .collect();
    let mut table = Table::new(["NAR asked", "ms", "round trips"]);
    for (name, runs) in [
        ("after its info dict came", &known),
        ("at once after the narinfo", &unknown),
    ] {
        table.row([
            name.to_owned(),
            format!("{runs:.1}"),
            format!("{:.2}", runs.median() / ROUND_TRIP_MS),
        ]);
    }
    println!("{table}");
    json!({
        "direct_ms": rounded(known.median(), 1),
        "rtts": rounded(known.median() / ROUND_TRIP_MS, 2),
        "cold_rtts": rounded(unknown.median() / ROUND_TRIP_MS, 2),
    })
}

/// From the request to the first byte of the body.
fn first_byte_ms(shim: SocketAddr, path: &str) -> f64 {
    let mut stream = TcpStream::connect(shim).unwrap();
    stream.set_nodelay(true).unwrap();
    let start = Instant::now();
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        seen.extend_from_slice(&buffer[..count]);
        let head = seen.windows(4).position(|window| window == b"\r\n\r\n");
        if head.is_some_and(|at| seen.len() > at + 4) {
            let elapsed = start.elapsed().as_secs_f64() * 1000.0;
            assert!(
                seen.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&seen)
            );
            return elapsed;
        }
        assert!(count > 0, "{}", String::from_utf8_lossy(&seen));
    }
}
