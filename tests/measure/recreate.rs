//! `recreate`: a NAR of 1 GB re-created piece by piece from an installed path, against the same payload from a file.

use std::fs;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

use narswarm::torrent::InfoDict;
use serde_json::{Value, json};

use crate::block_client::BlockClient;
use crate::chroot_store::ChrootStore;
use crate::node_process::NodeProcess;
use crate::packages;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::stock_downloader::fetch_all;
use crate::table::Table;

const SIZE: u64 = 1_000_000_000;
const FILES: u64 = 4;
const ROUNDS: usize = 5;

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let mut store = ChrootStore::create(&at("store"));
    store.add("large", fill);
    let release = Release::publish(&store, place.path());
    let info = &release.infos[0];
    setting::print(
        "A large NAR out of an installed path",
        &[
            format!(
                "content: a NAR of {:.2} GB of {FILES} files (files of packages, one behind the other); a payload of {:.0} MB",
                store.paths[0].nar_size as f64 / 1e9,
                info.length as f64 / 1e6
            ),
            "seeder: a `narswarm seedbox` that has the store path, or the payload file; it knows the info dict; all in the page cache".to_owned(),
            "first byte: from connecting to the first block of one piece; cold in a new process, warm when it was asked before".to_owned(),
            "rate: the whole payload to a stock librqbit in another process, into memory, on loopback".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), each round both in turn"),
        ],
    );

    let (store_state, file_state) = (at("from-store"), at("from-file"));
    let from_store =
        || NodeProcess::seedbox(&store_state, "store", &store.root, &release.channel());
    let from_file = || {
        NodeProcess::seedbox(
            &file_state,
            "payloads",
            &release.payloads,
            &release.channel(),
        )
    };
    // They learn the info dict.
    first_byte_ms(&from_store(), info);
    first_byte_ms(&from_file(), info);
    let [mut ours, mut file] = std::array::from_fn(|_| Seeder::default());
    for _ in 0..ROUNDS {
        ours.run(from_store, info);
        file.run(from_file, info);
    }
    let mut table = Table::new([
        "payload",
        "first byte cold, ms",
        "warm, ms",
        "MB/s",
        "MB per s of CPU",
    ]);
    for (name, seeder) in [("re-created", &ours), ("from a file", &file)] {
        table.row([
            name.to_owned(),
            format!("{:.1}", seeder.cold),
            format!("{:.2}", seeder.warm),
            format!("{:.0}", seeder.rate),
            format!("{:.0}", seeder.per_cpu),
        ]);
    }
    println!("{table}");
    json!({
        "wire_mb_s_core": rounded(ours.per_cpu.median(), 0),
        "ttfb_cold_ms": rounded(ours.cold.median(), 1),
        "ttfb_warm_ms": rounded(ours.warm.median(), 2),
        "ratio_vs_file": rounded(ours.rate.median() / file.rate.median(), 2),
    })
}

#[derive(Default)]
struct Seeder {
    cold: Runs,
    warm: Runs,
    /// Megabytes of payload per second.
    rate: Runs,
    per_cpu: Runs,
}

impl Seeder {
    fn run(&mut self, start: impl Fn() -> NodeProcess, info: &InfoDict) {
        let seedbox = start();
        self.cold.push(first_byte_ms(&seedbox, info));
        self.warm.push(first_byte_ms(&seedbox, info));
        drop(seedbox);
        // Nothing is warm for the whole of it.
        let seedbox = start();
        let cpu = seedbox.cpu();
        let fetched = fetch_all(std::slice::from_ref(info), seedbox.peer, 1);
        let megabytes = info.length as f64 / 1e6;
        self.rate.push(megabytes / fetched.seconds);
        self.per_cpu.push(megabytes / (seedbox.cpu() - cpu));
    }
}

/// Of a piece in the middle, or of another one when the seeder would rather give that.
fn first_byte_ms(seedbox: &NodeProcess, info: &InfoDict) -> f64 {
    let start = Instant::now();
    let mut client = BlockClient::connect(seedbox.peer, info);
    client.first_block(info.piece_count() / 2);
    start.elapsed().as_secs_f64() * 1e3
}

fn fill(place: &Path) {
    fs::create_dir(place).unwrap();
    let mut files = packages::files(1, SIZE / FILES);
    for i in 0..FILES {
        let mut file = BufWriter::new(File::create(place.join(i.to_string())).unwrap());
        let mut left = SIZE / FILES;
        while left > 0 {
            let path = files.next().expect("too few files in Debian packages");
            let mut content = fs::read(&path).unwrap_or_default();
            content.truncate(left as usize);
            left -= content.len() as u64;
            file.write_all(&content).unwrap();
        }
        file.flush().unwrap();
    }
}
