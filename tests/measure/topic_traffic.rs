//! `topic-traffic`: what an idle agent sends and receives because of its neighbours on a channel's topic.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::hosts::{Hosts, Link};
use crate::link_meter;
use crate::node_process::NodeProcess;
use crate::publisher::{Publisher, agent_sections};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const NEIGHBOURS: usize = 20;
const HOSTS: u8 = 21;
const PORT: u16 = 6881;
/// Until everybody has met, and has said what it has.
const SETTLE: Duration = Duration::from_secs(30);
const WINDOW: Duration = Duration::from_secs(60);
const WINDOWS: usize = 3;

pub fn measure() -> Value {
    let hosts = Hosts::new(&[Link::default(); HOSTS as usize]);
    let place = tempfile::tempdir().unwrap();
    let mut publisher = Publisher::new(place.path(), 50, 1000);
    setting::print(
        &format!("An idle agent with {NEIGHBOURS} neighbours"),
        &[
            format!(
                "{HOSTS} hosts: a seedbox with 50 paths and 20 agents, each connected with all others; no DHT, no LSD"
            ),
            format!(
                "bytes on each host's interface, both ways, all headers included; {WINDOWS} windows of {WINDOW:?}"
            ),
        ],
    );
    let address = |k: u8| SocketAddr::from((hosts.address(k), PORT));
    let first = publisher.publish(50, &address(1).to_string());
    let link = first.text("link").to_owned();
    let swarm = |k: u8| {
        format!(
            "[swarm]\nlisten = \"{}\"\nneighbours = {NEIGHBOURS}\ndht = false\nlsd = false\n",
            address(k)
        )
    };
    let (hold, channel) = publisher.seedbox();
    let start = |k: u8, role: &str, sections: &str| {
        let state = place.path().join(format!("node-{k}"));
        NodeProcess::start_at(&hosts.place(k), role, &state, sections)
    };
    let mut nodes = vec![start(1, "seedbox", &(hold + &swarm(1) + &channel))];
    for k in 2..=HOSTS {
        let sections = agent_sections(place.path(), &link, &publisher.keys.narinfo, &swarm(k));
        nodes.push(start(k, "agent", &sections));
    }
    for node in &nodes {
        node.wait(|status| {
            let met = status["swarm"]["neighbours"].as_u64().unwrap_or(0);
            status["channels"][0]["sequence"] == 1 && met >= NEIGHBOURS as u64 - 1
        });
    }
    thread::sleep(SETTLE);

    let mut table = Table::new(["window", "bytes per agent and hour", "smallest", "largest"]);
    let mut all = Runs::default();
    for window in 1..=WINDOWS {
        let moved = |k: u8| {
            let (received, sent) = link_meter::totals(&hosts.place(k), "eth0");
            received + sent
        };
        let read = || (2..=HOSTS).map(moved).collect::<Vec<u64>>();
        let (before, started) = (read(), Instant::now());
        thread::sleep(WINDOW);
        let after = read();
        let hours = started.elapsed().as_secs_f64() / 3600.0;
        let each = before
            .iter()
            .zip(&after)
            .map(|(before, after)| (after - before) as f64 / hours);
        let each: Vec<f64> = each.collect();
        let mean = each.iter().sum::<f64>() / each.len() as f64;
        let smallest = each.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = each.iter().copied().fold(0.0, f64::max);
        all.push(mean);
        table.row([
            window.to_string(),
            format!("{mean:.0}"),
            format!("{smallest:.0}"),
            format!("{largest:.0}"),
        ]);
    }
    println!("{table}");
    let met: Vec<u64> = nodes
        .iter()
        .map(|node| node.status()["swarm"]["neighbours"].as_u64().unwrap())
        .collect();
    println!("neighbours at the end: {met:?}\n");
    json!({ "bytes_per_agent_hour": rounded(all.median(), 0), "neighbours": NEIGHBOURS })
}
