//! `large-nar`: one payload file of 1 GB, seeded by a real seedbox, against librqbit seeding the same file.

use std::fs;
use std::net::SocketAddr;

use narswarm::torrent::InfoDict;
use serde_json::{Value, json};

use crate::chroot_store::ChrootStore;
use crate::node_process::NodeProcess;
use crate::random;
use crate::release::Release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::stock_downloader::fetch_all;
use crate::stock_seeder::{StockSeeder, write_torrents};
use crate::table::Table;

const SIZE: u64 = 1_000_000_000;
const ROUNDS: usize = 5;

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let mut store = ChrootStore::create(&at("store"));
    store.add("large", |place| random::write_file(place, 1, SIZE));
    let release = Release::publish(&store, place.path());
    fs::remove_dir_all(&store.root).unwrap();
    let info = &release.infos[0];
    write_torrents(&release.infos, &at("torrents"));
    setting::print(
        "One large payload from one seeder",
        &[
            format!(
                "content: incompressible, a payload of {:.3} GB in {} pieces of {} KiB, in the page cache",
                info.length as f64 / 1e9,
                info.piece_count(),
                info.piece_length / 1024
            ),
            "ours: a `narswarm seedbox` process with the payload file (source = \"payloads\"); theirs: a process with a librqbit session".to_owned(),
            "downloader of both: a stock librqbit session in a third process, .torrent given, into memory; all on loopback".to_owned(),
            format!("median of {ROUNDS} rounds (smallest to largest), each round all seeders in turn"),
        ],
    );

    let [mut cold, mut ours, mut theirs] = std::array::from_fn(|_| Seeder::default());
    for round in 0..ROUNDS {
        let state = at(&format!("box-{round}"));
        let seedbox =
            || NodeProcess::seedbox(&state, "payloads", &release.payloads, &release.channel());
        let first = seedbox();
        cold.run(info, first.peer, || first.cpu());
        drop(first);
        let again = seedbox();
        ours.run(info, again.peer, || again.cpu());
        drop(again);
        let stock = StockSeeder::start(&release.payloads, &at("torrents"));
        theirs.run(info, stock.address, || stock.cpu());
    }

    let mut table = Table::new(["seeder", "MB/s", "CPU s per GB", "vs librqbit"]);
    for (name, seeder) in [
        ("seedbox that hashes the file first", &cold),
        ("seedbox that knows the info dict, counted", &ours),
        ("librqbit (has hashed the file before)", &theirs),
    ] {
        table.row([
            name.to_owned(),
            format!("{:.0}", seeder.speed),
            format!("{:.2}", seeder.cpu),
            format!("{:.2}", seeder.speed.median() / theirs.speed.median()),
        ]);
    }
    println!("{table}");
    json!({
        "ratio_vs_librqbit": rounded(ours.speed.median() / theirs.speed.median(), 2),
    })
}

#[derive(Default)]
struct Seeder {
    speed: Runs,
    /// The seeder's own, not the downloader's.
    cpu: Runs,
}

impl Seeder {
    fn run(&mut self, info: &InfoDict, from: SocketAddr, cpu: impl Fn() -> f64) {
        let before = cpu();
        let fetched = fetch_all(std::slice::from_ref(info), from, 1);
        self.cpu.push((cpu() - before) * 1e9 / info.length as f64);
        self.speed.push(info.length as f64 / 1e6 / fetched.seconds);
    }
}
