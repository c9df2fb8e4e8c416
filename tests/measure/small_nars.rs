//! `small-nars`: many small NARs, re-created from a store by a real seedbox, against librqbit seeding the same payloads.

use std::fs;
use std::path::Path;

use narswarm::payload::Encoder;
use narswarm::torrent::InfoDict;
use serde_json::{Value, json};

use crate::chroot_store::ChrootStore;
use crate::node_process::NodeProcess;
use crate::packages;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::stock_downloader::{Fetched, fetch_all};
use crate::stock_seeder::{StockSeeder, write_torrents};
use crate::table::Table;

const NARS: usize = 500;
const PAYLOAD: usize = 60_000;
/// As many as Nix fetches at a time.
const PARALLEL: usize = 16;
const ROUNDS: usize = 5;
/// Files of packages, several to a NAR.
const FILES: std::ops::RangeInclusive<u64> = 8_000..=200_000;

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let store = build_store(&at("store"));
    let release = Release::publish(&store, place.path());
    let infos = &release.infos;
    write_torrents(infos, &at("torrents"));
    print_setting(&store, infos);

    let seedbox =
        |state: &str| NodeProcess::seedbox(&at(state), "store", &store.root, &release.channel());
    let [mut cold, mut recreating, mut warm, mut stock] =
        ["nothing", "info dicts", "info dicts, frames", "everything"].map(Seeder::new);
    for round in 0..ROUNDS {
        let state = format!("box-{round}");
        let first = seedbox(&state);
        cold.run(infos, first.peer, || first.cpu());
        drop(first);
        let again = seedbox(&state);
        recreating.run(infos, again.peer, || again.cpu());
        warm.run(infos, again.peer, || again.cpu());
        drop(again);
        let theirs = StockSeeder::start(&release.payloads, &at("torrents"));
        stock.run(infos, theirs.address, || theirs.cpu());
    }

    let mut table = Table::new([
        "seeder",
        "knows before",
        "NARs/s",
        "p50 ms",
        "CPU ms per NAR",
        "vs librqbit",
    ]);
    let theirs = stock.speed.median();
    for (name, seeder) in [
        ("seedbox", &cold),
        ("seedbox, counted", &recreating),
        ("seedbox", &warm),
        ("librqbit", &stock),
    ] {
        table.row([
            name.to_owned(),
            seeder.knows.to_owned(),
            format!("{:.0}", seeder.speed),
            format!("{:.1}", seeder.p50),
            format!("{:.2}", seeder.cpu),
            format!("{:.1}", seeder.speed.median() / theirs),
        ]);
    }
    println!("{table}");
    json!({
        "ratio_vs_librqbit": rounded(recreating.speed.median() / theirs, 2),
        "nars_per_s": rounded(recreating.speed.median(), 0),
        "p50_ms": rounded(recreating.p50.median(), 2),
    })
}

fn print_setting(store: &ChrootStore, infos: &[InfoDict]) {
    let raw: u64 = store.paths.iter().map(|path| path.nar_size).sum();
    let payload: u64 = infos.iter().map(|info| info.length).sum();
    let mean = |sum: u64| sum as f64 / NARS as f64 / 1e3;
    setting::print(
        &format!("{NARS} small NARs, {PARALLEL} at a time, from one seeder"),
        &[
            format!(
                "content: files of Debian packages; NARs of {:.0} kB, payloads of {:.1} kB on average",
                mean(raw),
                mean(payload)
            ),
            "ours: a `narswarm seedbox` process that re-creates every payload from a chroot store (source = \"store\")".to_owned(),
            "theirs: a process with a librqbit session that seeds the same payloads as files".to_owned(),
            "downloader of both: a stock librqbit session in a third process, .torrent given, into memory; all on loopback".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), each round all seeders in turn; files in the page cache"),
        ],
    );
}

/// What one seeder showed in all rounds.
struct Seeder {
    knows: &'static str,
    speed: Runs,
    p50: Runs,
    /// The seeder's own, not the downloader's.
    cpu: Runs,
}

impl Seeder {
    fn new(knows: &'static str) -> Self {
        Self {
            knows,
            speed: Runs::default(),
            p50: Runs::default(),
            cpu: Runs::default(),
        }
    }

    fn run(&mut self, infos: &[InfoDict], from: std::net::SocketAddr, cpu: impl Fn() -> f64) {
        let before = cpu();
        let fetched: Fetched = fetch_all(infos, from, PARALLEL);
        self.cpu.push((cpu() - before) * 1e3 / NARS as f64);
        self.speed.push(fetched.per_second());
        self.p50.push(fetched.p50_ms());
    }
}

fn build_store(root: &Path) -> ChrootStore {
    let mut store = ChrootStore::create(root);
    let mut files = packages::files(*FILES.start(), *FILES.end());
    for i in 0..NARS {
        let contents = contents(&mut files);
        store.add(&format!("small-{i}"), |place| {
            for (name, content) in &contents {
                let file = place.join(name);
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, content).unwrap();
            }
        });
    }
    store
}

/// Files that compress to about `PAYLOAD` bytes together; the last one is cut to fit.
fn contents(files: &mut impl Iterator<Item = std::path::PathBuf>) -> Vec<(String, Vec<u8>)> {
    let mut encoder = Encoder::new().unwrap();
    let (mut raw, mut length) = (Vec::new(), 0);
    let mut contents: Vec<(String, Vec<u8>)> = Vec::new();
    while length < PAYLOAD {
        let path = files.next().expect("too few files in Debian packages");
        let Ok(mut content) = fs::read(&path) else {
            continue;
        };
        raw.extend_from_slice(&content);
        let with = encoder.encode(&raw).unwrap().len();
        if with > PAYLOAD {
            content.truncate(content.len() * (PAYLOAD - length) / (with - length));
        }
        length = with;
        let directory = ["bin", "lib", "share"][contents.len() % 3];
        let name = path.file_name().unwrap().to_string_lossy();
        contents.push((format!("{directory}/{}-{name}", contents.len()), content));
    }
    contents
}
