//! `update`: what an agent moves for the next release, against what it moved for its first.

use std::net::SocketAddr;
use std::path::Path;

use narswarm::manifest::{Layer, assemble};
use narswarm::payload::ENCODER_ID;
use narswarm::torrent::ChannelLink;
use serde_json::{Value, json};

use crate::hosts::{Hosts, Link};
use crate::link_meter;
use crate::made_up_release::{CHANNEL_KEY, NARINFO_KEY, SYSTEM, header, key, write};
use crate::made_up_rows::rows;
use crate::manifest::{NEW_PERCENT, next_release};
use crate::node_process::NodeProcess;
use crate::publisher::agent_sections;
use crate::random::Random;
use crate::release::{self, CHANNEL};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const ROWS: usize = 40_000;
const RUNS: usize = 3;
const PORT: u16 = 6881;

struct Moved {
    first: u64,
    update: u64,
    changed: u64,
}

pub fn measure() -> Value {
    setting::print(
        &format!("From a release of {ROWS} paths to the next, {NEW_PERCENT} % of them new"),
        &[
            "an agent that knows only the link, and a seedbox, each on a host of its own; made-up rows".to_owned(),
            "bytes on the agent's interface, both ways, all headers included, until the release is in its catalog".to_owned(),
            format!("{RUNS} runs, each with a fresh agent"),
        ],
    );
    let runs: Vec<Moved> = (1..=RUNS as u64).map(run).collect();
    let mut table = Table::new(["run", "first fetch, bytes", "update, bytes", "fraction"]);
    for (i, moved) in runs.iter().enumerate() {
        table.row([
            (i + 1).to_string(),
            moved.first.to_string(),
            moved.update.to_string(),
            format!("{:.4}", moved.update as f64 / moved.first as f64),
        ]);
    }
    println!("{table}");
    let fraction: Runs = runs
        .iter()
        .map(|moved| moved.update as f64 / moved.first as f64)
        .collect();
    json!({ "paths": ROWS, "changed": runs[0].changed, "fraction": rounded(fraction.median(), 4) })
}

fn run(seed: u64) -> Moved {
    let hosts = Hosts::new(&[Link::default(); 2]);
    let place = tempfile::tempdir().unwrap();
    let published = place.path().join("channel");
    let mut random = Random(seed);
    let rows = rows(ROWS, &key(NARINFO_KEY), &mut random);
    let first = assemble(None, ENCODER_ID, SYSTEM, rows.clone()).unwrap();
    let first_header = header(&first, 1);
    write(&published, &first_header, &first);

    let address = |k: u8| SocketAddr::from((hosts.address(k), PORT));
    let swarm = |k: u8| {
        format!(
            "[swarm]\nlisten = \"{}\"\ndht = false\nlsd = false\n",
            address(k)
        )
    };
    let key_text = key(CHANNEL_KEY).public().to_string();
    let sections =
        seedbox_sections(place.path()) + &swarm(1) + &release::channel(&key_text, &published);
    let seedbox = NodeProcess::start_at(
        &hosts.place(1),
        "seedbox",
        &place.path().join("seedbox"),
        &sections,
    );
    seedbox.wait(|status| status["channels"][0]["sequence"] == 1);

    let link = ChannelLink {
        key: key(CHANNEL_KEY).public().bytes(),
        salt: CHANNEL.as_bytes().to_vec(),
        peers: vec![address(1)],
    };
    let trusted = key(NARINFO_KEY).public().to_string();
    let sections = agent_sections(place.path(), &link.to_string(), &trusted, &swarm(2));
    let moved = || {
        let (received, sent) = link_meter::totals(&hosts.place(2), "eth0");
        received + sent
    };
    let start = moved();
    let agent = NodeProcess::start_at(
        &hosts.place(2),
        "agent",
        &place.path().join("agent"),
        &sections,
    );
    agent.wait(|status| status["channels"][0]["sequence"] == 1);
    let has_first = moved();

    let layer = Layer::parse(first.new_layer.clone().unwrap().into(), &first.layers[0]).unwrap();
    let next = next_release(rows, &mut random);
    let second = assemble(Some((&first_header, &[layer])), ENCODER_ID, SYSTEM, next).unwrap();
    let before = moved();
    write(&published, &header(&second, 2), &second);
    agent.wait(|status| status["channels"][0]["sequence"] == 2);
    Moved {
        first: has_first - start,
        update: moved() - before,
        changed: second.layers[1].rows.into(),
    }
}

fn seedbox_sections(place: &Path) -> String {
    let empty = place.join("payloads");
    std::fs::create_dir_all(&empty).unwrap();
    format!("[hold]\nlocation = \"{}\"\n", empty.display())
}
