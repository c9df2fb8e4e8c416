//! `never-slower`: the closure of `closure` through an agent whose swarm is of no use, against the upstream alone.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::bad_peer::BAD_PEER;
use crate::closure_lab::{AGENTS, ClosureLab, PATHS, RATE_MBIT, ROUND_TRIP_MS, Run, SEEDBOX};
use crate::nix_copy::Compression;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::started::Started;
use crate::table::Table;

const ROUNDS: usize = 3;
/// The seedbox's, for everybody together: a hundredth of the client's link.
const SLOW: &str = "60kB/s";

pub fn measure() -> Value {
    let mut lab = ClosureLab::new();
    let (cache, _) = lab.cache(Compression::Zstd);
    let infos = lab.info_dicts();
    setting::print(
        "A closure when the swarm is of no use",
        &[
            format!("content: {PATHS} paths, {:.0} MB of NARs, as in `closure`", lab.bytes() as f64 / 1e6),
            format!("client: {} with an empty store, behind {RATE_MBIT} Mbit/s and {ROUND_TRIP_MS} ms round trip", lab.nix.version),
            "ours: an agent with nginx (zstd) as upstream and a swarm that is empty, of two peers that send garbage,".to_owned(),
            format!("or of one seedbox with {SLOW} for all; theirs: Nix and nginx without an agent"),
            format!("median of {ROUNDS} rounds (smallest to largest), each round all in turn"),
        ],
    );

    let upstream = lab.nginx(&cache, 8080);
    let _slow = lab.seedbox(SLOW);
    let _bad = AGENTS.map(|host| {
        let (listen, infos) = (lab.peer(host).to_string(), infos.to_str().unwrap());
        Started::ourselves(&lab.hosts.place(host), &[BAD_PEER, &listen, infos])
    });
    let swarms: [(&str, Vec<SocketAddr>); 3] = [
        ("empty", vec![]),
        ("sends garbage", AGENTS.map(|host| lab.peer(host)).to_vec()),
        ("very slow", vec![lab.peer(SEEDBOX)]),
    ];
    let mut alone = Runs::default();
    let mut ours = swarms.each_ref().map(|_| Column::default());
    for _ in 0..ROUNDS {
        alone.push(lab.plain(&upstream).nix.seconds);
        for ((_, peers), column) in swarms.iter().zip(&mut ours) {
            column.push(&lab.through_agent(peers, &upstream));
        }
    }

    let mut table = Table::new([
        "swarm",
        "seconds",
        "ratio",
        "MB over the link",
        "MB from the swarm",
        "MB in vain",
    ]);
    table.row([
        "(no agent)".to_owned(),
        format!("{alone:.1}"),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
    ]);
    let mut worst: f64 = 0.0;
    for ((name, _), column) in swarms.iter().zip(&ours) {
        let ratio = column.seconds.median() / alone.median();
        worst = worst.max(ratio);
        table.row([
            (*name).to_owned(),
            format!("{:.1}", column.seconds),
            format!("{ratio:.2}"),
            format!("{:.1}", column.received),
            format!("{:.1}", column.swarm),
            format!("{:.1}", column.wasted),
        ]);
    }
    println!("{table}");
    json!({ "worst_ratio": rounded(worst, 2) })
}

#[derive(Default)]
struct Column {
    seconds: Runs,
    received: Runs,
    swarm: Runs,
    wasted: Runs,
}

impl Column {
    fn push(&mut self, run: &Run) {
        let (status, _) = run.agent.as_ref().unwrap();
        let bytes = |what: &str| status["bytes"][what].as_f64().unwrap() / 1e6;
        self.seconds.push(run.nix.seconds);
        self.received.push(run.link.bytes as f64 / 1e6);
        self.swarm.push(bytes("swarm"));
        self.wasted.push(bytes("wasted"));
    }
}
