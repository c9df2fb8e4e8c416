//! `announce`: from the end of `publish` until every agent knows the release.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::node_process::{NodeProcess, quiet_swarm};
use crate::publisher::{Publisher, agent_sections};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const AGENTS: usize = 20;
const RUNS: usize = 5;
/// No measurement: somebody missed the release.
const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(100);

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new(place.path(), RUNS + 1, 10_000);
    setting::print(
        &format!("A release reaches {AGENTS} agents"),
        &[
            "one seedbox reads the publisher's directory (looked at every 5 s); each agent knows the channel's link with its address"
                .to_owned(),
            "no DHT, no LSD, no tracker; all on loopback, one process each".to_owned(),
            format!("{RUNS} releases, one after the other; the agents run on"),
        ],
    );
    // The port of the box must be known for the link.
    let seedbox_address = free_port();
    let first = publisher.publish(1, &seedbox_address);
    let link = first.text("link").to_owned();
    let (hold, channel) = publisher.seedbox();
    let swarm = quiet_swarm("10GB/s").replace("127.0.0.1:0", &seedbox_address);
    let seedbox = NodeProcess::start(
        "seedbox",
        &place.path().join("seedbox"),
        &(hold + &swarm + &channel),
    );
    assert_eq!(seedbox.peer.to_string(), seedbox_address);
    let agents: Vec<NodeProcess> = (0..AGENTS)
        .map(|i| {
            let sections = agent_sections(
                place.path(),
                &link,
                &publisher.keys.narinfo,
                &quiet_swarm("10GB/s"),
            );
            NodeProcess::start("agent", &place.path().join(format!("agent-{i}")), &sections)
        })
        .collect();
    let started = Instant::now();
    await_sequence(&agents, 1);
    let first = started.elapsed().as_secs_f64();

    let mut table = Table::new(["release", "first agent, s", "median, s", "all, s"]);
    let mut all = Runs::default();
    for release in 2..=RUNS + 1 {
        publisher.publish(release, &seedbox_address);
        let mut seconds = await_sequence(&agents, release as u64);
        seconds.sort_by(f64::total_cmp);
        let last = seconds[AGENTS - 1];
        all.push(last);
        let cells = [release as f64, seconds[0], seconds[AGENTS / 2], last];
        table.row([
            format!("{release}"),
            format!("{:.1}", cells[1]),
            format!("{:.1}", cells[2]),
            format!("{:.1}", cells[3]),
        ]);
    }
    println!("{table}");
    println!("from the last agent's start until all had the first release: {first:.1} s\n");
    json!({ "agents": AGENTS, "seconds_to_all": rounded(all.median(), 1) })
}

/// When each agent had the release, in seconds from now.
fn await_sequence(agents: &[NodeProcess], sequence: u64) -> Vec<f64> {
    let start = Instant::now();
    let mut seconds = vec![None; agents.len()];
    while seconds.iter().any(Option::is_none) {
        for (agent, seconds) in agents.iter().zip(&mut seconds) {
            if seconds.is_none() && agent.status()["channels"][0]["sequence"] == sequence {
                *seconds = Some(start.elapsed().as_secs_f64());
            }
        }
        assert!(
            start.elapsed() < PATIENCE,
            "release {sequence}: {seconds:?}"
        );
        thread::sleep(PAUSE);
    }
    seconds.into_iter().flatten().collect()
}

fn free_port() -> String {
    let socket = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    socket.local_addr().unwrap().to_string()
}
