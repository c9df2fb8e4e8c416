//! `closure`: real Nix realises a closure over a home link, from a swarm of three through an agent, against one binary
//! cache on the same link.

use serde_json::{Value, json};

use crate::closure_lab::{AGENTS, ClosureLab, PATHS, RATE_MBIT, ROUND_TRIP_MS, Run, SEEDBOX};
use crate::nix_copy::Compression;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const ROUNDS: usize = 3;

pub fn measure() -> Value {
    let mut lab = ClosureLab::new();
    let (zstd, zstd_bytes) = lab.cache(Compression::Zstd);
    let (xz, xz_bytes) = lab.cache(Compression::Xz);
    let payloads: u64 = lab.release.infos.iter().map(|info| info.length).sum();
    let mb = |bytes: u64| bytes as f64 / 1e6;
    setting::print(
        "A closure over a home link",
        &[
            format!(
                "content: files of Debian packages, {PATHS} paths, {:.0} MB of NARs with a heavy tail; {:.1} MB as payloads, {:.1} as zstd, {:.1} as xz",
                mb(lab.bytes()),
                mb(payloads),
                mb(zstd_bytes),
                mb(xz_bytes)
            ),
            format!("client: {} with an empty store, behind {RATE_MBIT} Mbit/s and {ROUND_TRIP_MS} ms round trip; the others behind nothing", lab.nix.version),
            "ours: an agent that knows a seedbox with payload files, two agents with installed paths, and nginx with zstd as upstream".to_owned(),
            "theirs: one nginx, HTTP/1.1 without TLS, NARs compressed as `nix copy` does".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), each round both in turn; xz once, for comparison"),
        ],
    );

    let zstd = lab.nginx(&zstd, 8080);
    let xz = lab.nginx(&xz, 8081);
    let _seedbox = lab.seedbox("10GB/s");
    let _agents = AGENTS.map(|host| lab.installed_agent(host));
    let peers = [SEEDBOX, AGENTS[0], AGENTS[1]].map(|host| lab.peer(host));
    let [mut ours, mut plain_zstd, mut plain_xz] = std::array::from_fn(|_| Column::default());
    for _ in 0..ROUNDS {
        ours.push(&lab.through_agent(&peers, &zstd));
        plain_zstd.push(&lab.plain(&zstd));
    }
    plain_xz.push(&lab.plain(&xz));

    let mut table = Table::new(["", "narswarm", "nginx, zstd", "nginx, xz"]);
    let columns = [&ours, &plain_zstd, &plain_xz];
    let mut row = |name: &str, cell: &dyn Fn(&Column) -> String| {
        let [a, b, c] = columns.map(cell);
        table.row([name.to_owned(), a, b, c]);
    };
    row("seconds", &|column| format!("{:.1}", column.seconds));
    row("  until the first NAR", &|column| {
        format!("{:.2}", column.until_first_nar)
    });
    row("  NARs", &|column| format!("{:.1}", column.nars));
    row("  after the start of the last NAR", &|column| {
        format!("{:.2}", column.from_last_nar)
    });
    row("MB over the link", &|column| {
        format!("{:.1}", column.received)
    });
    row("seconds that these take at the link's rate", &|column| {
        format!("{:.1}", column.received.median() * 8.0 / RATE_MBIT)
    });
    row("seconds with the link full", &|column| {
        format!("{:.1}", column.full)
    });
    row("seconds with the link idle", &|column| {
        format!("{:.1}", column.idle)
    });
    row("CPU seconds of Nix", &|column| {
        format!("{:.1}", column.nix_cpu)
    });
    row("CPU seconds of the agent", &|column| {
        column.agent(|agent| &agent.cpu)
    });
    row("MB of NARs from the swarm", &|column| {
        column.agent(|agent| &agent.swarm)
    });
    row("MB of NARs from the upstream", &|column| {
        column.agent(|agent| &agent.upstream)
    });
    row("MB fetched in vain", &|column| {
        column.agent(|agent| &agent.wasted)
    });
    println!("{table}");
    let upstream = ours
        .agent
        .as_ref()
        .map_or(0.0, |agent| agent.upstream.median());
    json!({
        "paths": PATHS,
        "bytes": lab.bytes(),
        "nix": lab.nix.version,
        "ratio_vs_http": rounded(plain_zstd.seconds.median() / ours.seconds.median(), 2),
        "ratio_vs_http_xz": rounded(plain_xz.seconds.median() / ours.seconds.median(), 2),
        "upstream_bytes": (upstream * 1e6).round(),
    })
}

#[derive(Default)]
struct Column {
    seconds: Runs,
    until_first_nar: Runs,
    nars: Runs,
    from_last_nar: Runs,
    received: Runs,
    full: Runs,
    idle: Runs,
    nix_cpu: Runs,
    agent: Option<Agent>,
}

#[derive(Default)]
struct Agent {
    cpu: Runs,
    swarm: Runs,
    upstream: Runs,
    wasted: Runs,
}

impl Column {
    fn push(&mut self, run: &Run) {
        let nix = &run.nix;
        self.seconds.push(nix.seconds);
        self.until_first_nar.push(nix.until_first_nar);
        self.from_last_nar.push(nix.from_last_nar);
        self.nars
            .push(nix.seconds - nix.until_first_nar - nix.from_last_nar);
        self.received.push(run.link.bytes as f64 / 1e6);
        self.full.push(run.link.seconds_full);
        self.idle.push(run.link.seconds_idle);
        self.nix_cpu.push(nix.cpu);
        if let Some((status, cpu)) = &run.agent {
            let bytes = |what: &str| status["bytes"][what].as_f64().unwrap() / 1e6;
            let agent = self.agent.get_or_insert_default();
            agent.cpu.push(*cpu);
            agent.swarm.push(bytes("swarm"));
            agent.upstream.push(bytes("upstream"));
            agent.wasted.push(bytes("wasted"));
        }
    }

    fn agent(&self, runs: impl Fn(&Agent) -> &Runs) -> String {
        let agent = self.agent.as_ref();
        agent.map_or("-".to_owned(), |agent| format!("{:.1}", runs(agent)))
    }
}
