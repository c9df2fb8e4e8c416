//! `manifest`: what 100,000 rows take on the wire, to load, in a running agent, and to look up; and what an update moves.

use std::hint::black_box;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use narswarm::catalog::{Catalog, Release, Shelf};
use narswarm::manifest::{Layer, NewRow, assemble};
use narswarm::nix::{HashPart, NarHash, StorePath};
use narswarm::payload::ENCODER_ID;
use narswarm::torrent::InfoHash;
use serde_json::{Value, json};

use crate::cpu_time;
use crate::made_up_release::{CHANNEL_KEY, NARINFO_KEY, SYSTEM, header, key, write};
use crate::made_up_rows::rows;
use crate::node_process::{NodeProcess, quiet_swarm};
use crate::random::Random;
use crate::release::{self, CHANNEL};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

/// The argument that makes this program the process that loads.
pub const LOAD: &str = "load-manifest";

const ROWS: usize = 100_000;
/// Of a hundred paths, those that the next release replaces.
pub const NEW_PERCENT: usize = 5;
const RUNS: usize = 5;
/// Narinfos asked for over HTTP.
const REQUESTS: usize = 10_000;
/// What the allocator gives back after some work, it gives back within this time.
const SETTLE: Duration = Duration::from_secs(2);

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let published = place.path().join("channel");
    let mut random = Random(1);
    let rows = rows(ROWS, &key(NARINFO_KEY), &mut random);
    let mean = |sum: usize| sum as f64 / ROWS as f64;
    setting::print(
        &format!("A manifest of {ROWS} rows"),
        &[
            format!(
                "content: made up; names of {:.1} bytes, {:.1} references, one signature a row, sizes of real NARs",
                mean(rows.iter().map(|row| row.store_path.name().len()).sum()),
                mean(rows.iter().map(|row| row.references.len()).sum())
            ),
            "agent: a `narswarm agent` process that follows the manifest in a directory, with an empty store".to_owned(),
            format!("load: verify, read and check every row, as an agent that starts; median of {RUNS} runs, each in a new process"),
        ],
    );

    let first = assemble(None, ENCODER_ID, SYSTEM, rows.clone()).unwrap();
    let first_header = header(&first, 1);
    let first_bytes = write(&published, &first_header, &first);
    let mut table = Table::new(["", "value", "setting"]);
    table.row([
        "bytes per path".to_owned(),
        format!("{:.1}", first_bytes.total() as f64 / ROWS as f64),
        format!(
            "header {} and layer {} bytes",
            first_bytes.header, first_bytes.layer
        ),
    ]);

    let state = place.path().join("agent");
    let agent = start_agent(&state, &published, place.path());
    let status = agent.wait(|status| status["channels"][0]["state"] == "ok");
    let paths = status["channels"][0]["paths"].as_u64().unwrap();
    std::thread::sleep(SETTLE);
    let memory = agent.memory("VmRSS");
    let mut row = |name: &str, value: f64, setting: &str| {
        table.row([name.to_owned(), format!("{value:.1}"), setting.to_owned()]);
    };
    row(
        "agent's memory, MB",
        memory / 1e6,
        "VmRSS, its first start: manifest fetched, state ok",
    );
    let narinfo = narinfo_us(&agent, &rows, &mut random);
    row(
        "narinfo over HTTP, us",
        narinfo,
        "one kept connection; answers with a checked signature",
    );
    row(
        "agent's memory, MB",
        agent.memory("VmRSS") / 1e6,
        &format!("after {REQUESTS} narinfos"),
    );
    row(
        "its peak, MB",
        agent.memory("VmHWM") / 1e6,
        "VmHWM until then",
    );
    drop(agent);
    let agent = start_agent(&state, &published, place.path());
    agent.wait(|status| status["channels"][0]["state"] == "ok");
    std::thread::sleep(SETTLE);
    row(
        "agent's memory, MB",
        agent.memory("VmRSS") / 1e6,
        "started again: catalog from disk",
    );

    let loads: Vec<Loaded> = (0..RUNS).map(|_| Loaded::in_new_process(&state)).collect();
    let median = |of: fn(&Loaded) -> f64| loads.iter().map(of).collect::<Runs>();
    let cpu = median(|loaded| loaded.cpu_s);
    let find = median(|loaded| loaded.find_us);
    let find_payload = median(|loaded| loaded.find_payload_us);

    let layer = Layer::parse(first.new_layer.clone().unwrap().into(), &first.layers[0]).unwrap();
    let next = next_release(rows, &mut random);
    let started = cpu_time::of_this_thread();
    let second = assemble(Some((&first_header, &[layer])), ENCODER_ID, SYSTEM, next).unwrap();
    let assembling = cpu_time::of_this_thread() - started;
    let update = write(&published, &header(&second, 2), &second);
    let whole = update.total() + first_bytes.layer;
    let fraction = update.total() as f64 / whole as f64;
    agent.wait(|status| status["channels"][0]["sequence"] == 2);
    std::thread::sleep(SETTLE);
    row(
        "agent's memory, MB",
        agent.memory("VmRSS") / 1e6,
        "following releases 1 and 2",
    );
    drop(agent);

    let mut row = |name: &str, value: String, setting: String| {
        table.row([name.to_owned(), value, setting]);
    };
    row(
        "load, s of CPU",
        format!("{cpu:.3}"),
        "from the agent's state directory".to_owned(),
    );
    row(
        "look-up by hash part, us",
        format!("{find:.2}"),
        "a whole entry, references resolved".to_owned(),
    );
    row(
        "look-up by info hash, us",
        format!("{find_payload:.2}"),
        "the same".to_owned(),
    );
    row(
        "update_fraction",
        format!("{fraction:.4}"),
        format!(
            "{} new rows: header {} and layer {} bytes of {whole}; assembled in {assembling:.2} s of CPU",
            second.layers[1].rows, update.header, update.layer
        ),
    );
    println!("{table}");
    json!({
        "paths": paths,
        "bytes_per_path": rounded(first_bytes.total() as f64 / ROWS as f64, 1),
        "load_cpu_s": rounded(cpu.median(), 3),
        "agent_rss_mb": rounded(memory / 1e6, 1),
        "lookup_us": rounded(find.median(), 2),
        "update_fraction": rounded(fraction, 4),
    })
}

fn start_agent(state: &Path, manifest: &Path, store: &Path) -> NodeProcess {
    let sections = format!(
        "trusted_keys = [\"{}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{}{}",
        key(NARINFO_KEY).public(),
        store.display(),
        quiet_swarm("2MB/s"),
        release::channel(&key(CHANNEL_KEY).public().to_string(), manifest)
    );
    NodeProcess::start("agent", state, &sections)
}

/// Mean time of a narinfo that the manifest lists.
fn narinfo_us(agent: &NodeProcess, rows: &[NewRow], random: &mut Random) -> f64 {
    let mut connection = agent.connect();
    let start = Instant::now();
    for _ in 0..REQUESTS {
        let row = &rows[random.below(ROWS as u64) as usize];
        let path = format!("/{}.narinfo", row.store_path.hash_part());
        let (status, _) = connection.get(&path);
        assert_eq!(status, 200, "{path}");
    }
    start.elapsed().as_secs_f64() * 1e6 / REQUESTS as f64
}

/// The next release: one path in twenty has another hash part, and what refers to it refers to the new one. (In nixpkgs
/// what refers to a new path is new itself; the share of new paths is what is given here.)
pub fn next_release(mut rows: Vec<NewRow>, random: &mut Random) -> Vec<NewRow> {
    let mut replaced = std::collections::HashMap::new();
    let new = rows.len() * 2 * NEW_PERCENT / 100;
    // A new path is one of those that few refer to: the others would make everything new.
    let unpopular = rows.iter_mut().rev().take(new);
    for row in unpopular.step_by(2) {
        let hash_part = HashPart::from_bytes(random.bytes());
        let path = StorePath::new(hash_part, row.store_path.name()).unwrap();
        replaced.insert(row.store_path.clone(), path.clone());
        row.store_path = path;
        row.nar_hash = NarHash::from_bytes(random.bytes());
        row.info_hash = InfoHash::from_bytes(random.bytes());
    }
    for reference in rows.iter_mut().flat_map(|row| &mut row.references) {
        if let Some(path) = replaced.get(reference) {
            *reference = path.clone();
        }
    }
    rows
}

/// What the loading process found.
struct Loaded {
    cpu_s: f64,
    find_us: f64,
    find_payload_us: f64,
}

impl Loaded {
    fn in_new_process(state: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(LOAD).arg(state).stderr(Stdio::inherit());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{command:?}");
        let found: Value = serde_json::from_slice(&output.stdout).unwrap();
        let figure = |key: &str| found[key].as_f64().unwrap();
        Self {
            cpu_s: figure("cpu_s"),
            find_us: figure("find_us"),
            find_payload_us: figure("find_payload_us"),
        }
    }
}

/// The loading process: reads what the agent kept in `state`, in the way that the agent does, and looks things up.
pub fn load(state: &Path) -> ExitCode {
    let start = cpu_time::of_this_thread();
    let public = key(CHANNEL_KEY).public();
    let shelf = Shelf::open(state, CHANNEL.parse().unwrap(), public, 1).unwrap();
    let catalog = Catalog::new(shelf.load(&[]).unwrap());
    let cpu_s = cpu_time::of_this_thread() - start;
    let keys = keys(&catalog.releases()[0]);
    let find_us = per_call_us(&keys, |(hash_part, _)| {
        catalog.find(hash_part).next().is_some()
    });
    let find_payload_us = per_call_us(&keys, |(_, info_hash)| {
        catalog.find_payload(info_hash, |_, _| true).is_some()
    });
    let found = json!({"cpu_s": cpu_s, "find_us": find_us, "find_payload_us": find_payload_us});
    println!("{found}");
    ExitCode::SUCCESS
}

/// What is looked up: rows all over the release, in no order.
fn keys(release: &Release) -> Vec<(HashPart, InfoHash)> {
    let layer = &release.layers()[0];
    let mut random = Random(3);
    let picked = (0..ROWS).map(|_| random.below(layer.len().into()) as u32);
    let rows = picked.map(|at| layer.row(at).unwrap());
    rows.map(|row| (row.hash_part(), row.info_hash())).collect()
}

fn per_call_us<K>(keys: &[K], find: impl Fn(&K) -> bool) -> f64 {
    let start = cpu_time::of_this_thread();
    for key in keys {
        assert!(black_box(find(key)));
    }
    (cpu_time::of_this_thread() - start) * 1e6 / keys.len() as f64
}
