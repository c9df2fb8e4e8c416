//! `long-tail`: many agents with few neighbours each, and NARs that only one of them has, or only the seedbox.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use narswarm::config::{Config, Role};
use narswarm::nix::StorePath;
use narswarm::serve::Node;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::chroot_store::{ChrootStore, StoredPath};
use crate::random::Random;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const AGENTS: usize = 60;
const NEIGHBOURS: usize = 12;
/// What each agent has alone; the seedbox has as many.
const NARS_EACH: usize = 4;
const NAR_BYTES: usize = 30_000;
const ROUNDS: usize = 3;
/// NARs asked for at a time, by different agents.
const PARALLEL: usize = 4;
/// An agent knows so many others at first when there is no seedbox to meet at.
const ACQUAINTANCES: usize = 3;
/// Neighbours are found and have told what they have within this time.
const SETTLE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(500);
/// Most agents have at least so many neighbours then.
const ENOUGH: u64 = NEIGHBOURS as u64 * 2 / 3;
/// A NAR that takes longer was not found.
const PATIENCE: Duration = Duration::from_secs(20);

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let store = build_store(&place.path().join("store"));
    let release = Release::publish(&store, place.path());
    setting::print(
        &format!("{AGENTS} agents with {NEIGHBOURS} neighbours each, and NARs that only one of them has"),
        &[
            format!(
                "content: made up; {} NARs of {} kB, {NARS_EACH} on each agent and {NARS_EACH} on the seedbox, none twice",
                store.paths.len(),
                NAR_BYTES / 1000
            ),
            "agents: all in one process, on loopback; each fetches NARs of others through its shim, narinfo first".to_owned(),
            format!("with a seedbox (200 neighbours): agents know its address; without: {ACQUAINTANCES} agents each, at random"),
            format!("found: delivered whole within {PATIENCE:?}; {PARALLEL} asked for at a time; median of {ROUNDS} rounds with new agents"),
        ],
    );
    let runtime = Runtime::new().unwrap();
    let mut table = Table::new(["", "asked", "found", "median ms", "p95 ms", "neighbours"]);
    let mut measured = Vec::new();
    for seedbox in [true, false] {
        let [mut share, mut median, mut p95, mut neighbours] = [(); 4].map(|()| Runs::default());
        for round in 0..ROUNDS {
            let at = place.path().join(format!("round-{seedbox}-{round}"));
            let lab = Lab {
                release: &release,
                store: &store,
                at,
                random: Random(round as u64 + 7),
            };
            let found = runtime.block_on(lab.run(seedbox));
            share.push(found.times.len() as f64 / found.asked as f64);
            median.push(found.percentile(50));
            p95.push(found.percentile(95));
            neighbours.push(found.neighbours);
        }
        table.row([
            if seedbox { "with a seedbox" } else { "without" }.to_owned(),
            format!(
                "{} x {ROUNDS}",
                AGENTS * NARS_EACH + if seedbox { NARS_EACH } else { 0 }
            ),
            format!("{share:.3}"),
            format!("{median:.0}"),
            format!("{p95:.0}"),
            format!("{neighbours:.1}"),
        ]);
        measured.push((share.median(), median.median()));
    }
    println!("{table}");
    json!({
        "agents": AGENTS,
        "neighbours": NEIGHBOURS,
        "found_share": rounded(measured[0].0, 3),
        "median_ms": rounded(measured[0].1, 1),
        "found_share_without_seedbox": rounded(measured[1].0, 3),
        "median_ms_without_seedbox": rounded(measured[1].1, 1),
    })
}

/// Paths that nothing makes smaller, and that nobody else has.
fn build_store(root: &Path) -> ChrootStore {
    let mut store = ChrootStore::create(root);
    let mut random = Random(1);
    for number in 0..(AGENTS + 1) * NARS_EACH {
        let mut bytes = vec![0; NAR_BYTES];
        random.fill(&mut bytes);
        store.add(&format!("rare-{number}"), |place| {
            fs::write(place, bytes).unwrap()
        });
    }
    store
}

struct Lab<'a> {
    release: &'a Release,
    store: &'a ChrootStore,
    at: PathBuf,
    random: Random,
}

/// What one round showed.
struct Found {
    asked: usize,
    /// Of those that were delivered, in milliseconds, in order.
    times: Vec<f64>,
    /// Of an agent, on average.
    neighbours: f64,
}

impl Found {
    /// NaN when nothing was found.
    fn percentile(&self, percent: usize) -> f64 {
        let last = self.times.len().saturating_sub(1);
        let at = (self.times.len() * percent / 100).min(last);
        self.times.get(at).copied().unwrap_or(f64::NAN)
    }
}

impl Lab<'_> {
    async fn run(mut self, seedbox: bool) -> Found {
        fs::create_dir_all(&self.at).unwrap();
        let held = |who: usize| who * NARS_EACH..(who + 1) * NARS_EACH;
        let mut boxes = Vec::new();
        if seedbox {
            boxes.push(self.start(AGENTS, Role::Seedbox, held(AGENTS), &[]).await);
        }
        let mut agents: Vec<Node> = Vec::new();
        for who in 0..AGENTS {
            let known: Vec<SocketAddr> = match boxes.first() {
                Some(meeting) => vec![meeting.run_file().peer],
                None => {
                    let known = (0..ACQUAINTANCES.min(agents.len()))
                        .map(|_| self.random.below(agents.len() as u64) as usize);
                    known.map(|k| agents[k].run_file().peer).collect()
                }
            };
            agents.push(self.start(who, Role::Agent, held(who), &known).await);
        }
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let neighbours = settle(&client, &agents).await;
        let mut asks = Vec::new();
        for path in 0..(AGENTS + boxes.len()) * NARS_EACH {
            let holder = path / NARS_EACH;
            let asker = (holder + 1 + self.random.below(AGENTS as u64 - 1) as usize)
                % (AGENTS + boxes.len());
            let asker = if asker == AGENTS { 0 } else { asker };
            asks.push((agents[asker].run_file().shim, &self.store.paths[path]));
        }
        // In no order.
        asks.sort_by_cached_key(|_| self.random.next());
        let asked = asks.len();
        let fetches =
            futures_util::stream::iter(asks).map(|(shim, path)| fetch(&client, shim, path));
        let times: Vec<Option<f64>> = fetches.buffer_unordered(PARALLEL).collect().await;
        let mut times: Vec<f64> = times.into_iter().flatten().collect();
        times.sort_by(f64::total_cmp);
        for node in agents.into_iter().chain(boxes) {
            node.stop().await;
        }
        Found {
            asked,
            times,
            neighbours,
        }
    }

    /// A node that has these payloads, as files.
    async fn start(
        &self,
        who: usize,
        role: Role,
        held: std::ops::Range<usize>,
        peers: &[SocketAddr],
    ) -> Node {
        let state = self.at.join(format!("node-{who}"));
        let hold = state.join("held");
        fs::create_dir_all(&hold).unwrap();
        for path in &self.store.paths[held] {
            let name = format!("{}.nar.zst", path.nar_hash.base32());
            fs::copy(self.release.payloads.join(&name), hold.join(name)).unwrap();
        }
        let peers: Vec<String> = peers.iter().map(|peer| format!("\"{peer}\"")).collect();
        let swarm = format!(
            "[swarm]\nlisten = \"127.0.0.1:0\"\nupload_limit = \"10GB/s\"\ndht = false\nlsd = false\npeers = [{}]\n",
            peers.join(", ")
        );
        let own = match role {
            Role::Seedbox => String::new(),
            Role::Agent => format!(
                "neighbours = {NEIGHBOURS}\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n",
                state.join("root").display()
            ),
        };
        let trusted = match role {
            Role::Seedbox => String::new(),
            Role::Agent => format!(
                "trusted_keys = [\"{}\"]\n",
                self.release.narinfo_key.public()
            ),
        };
        let text = format!(
            "state = \"{}\"\n{trusted}{swarm}{own}[hold]\nlocation = \"{}\"\n{}",
            state.display(),
            hold.display(),
            self.release.channel()
        );
        let file = state.with_extension("toml");
        fs::write(&file, text).unwrap();
        let config = Config::read(&file, role).unwrap();
        Node::start(config.options).await.unwrap()
    }
}

/// Waits until nearly all have neighbours enough; returns how many they have on average.
async fn settle(client: &reqwest::Client, agents: &[Node]) -> f64 {
    let start = Instant::now();
    loop {
        tokio::time::sleep(PAUSE).await;
        let mut counts = Vec::new();
        for agent in agents {
            let url = format!("http://{}/status.json", agent.run_file().shim);
            let answer = client.get(url).send().await.unwrap();
            let status: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
            counts.push(status["swarm"]["neighbours"].as_u64().unwrap());
        }
        let settled = counts.iter().filter(|count| **count >= ENOUGH).count();
        if settled * 20 >= agents.len() * 19 || start.elapsed() > SETTLE {
            // What they have is told every two seconds at most.
            tokio::time::sleep(PAUSE * 6).await;
            return counts.iter().sum::<u64>() as f64 / agents.len() as f64;
        }
    }
}

/// Milliseconds from the narinfo's request to the NAR's last byte; `None` if it did not come.
async fn fetch(client: &reqwest::Client, shim: SocketAddr, path: &StoredPath) -> Option<f64> {
    let hash_part = StorePath::hash_part(&path.store_path);
    let get = async {
        let start = Instant::now();
        let narinfo = client.get(format!("http://{shim}/{hash_part}.narinfo"));
        let narinfo = narinfo.send().await.ok()?;
        assert!(narinfo.status().is_success());
        let nar = format!(
            "http://{shim}/nar/{hash_part}-{}.nar",
            path.nar_hash.base32()
        );
        let nar = client.get(nar).send().await.ok()?;
        let bytes = nar.error_for_status().ok()?.bytes().await.ok()?;
        (bytes.len() as u64 == path.nar_size).then(|| start.elapsed().as_secs_f64() * 1e3)
    };
    tokio::time::timeout(PATIENCE, get).await.ok().flatten()
}
