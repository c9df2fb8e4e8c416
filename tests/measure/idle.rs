//! `idle`: what a seedbox costs that offers 100,000 installed NARs while nobody asks for any of them.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use narswarm::catalog::InfoDicts;
use narswarm::manifest::{NewRow, assemble};
use narswarm::payload::ENCODER_ID;
use narswarm::torrent::{InfoDict, InfoHash, piece_length};
use serde_json::{Value, json};

use crate::chroot_store::ChrootStore;
use crate::made_up_release::{CHANNEL_KEY, NARINFO_KEY, SYSTEM, header, key, write};
use crate::made_up_rows::rows;
use crate::node_process::{NodeProcess, quiet_swarm};
use crate::random::Random;
use crate::release;
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;

const ROWS: usize = 100_000;
const PEERS: usize = 20;
/// Until what the start has left to do is done.
const SETTLE: Duration = Duration::from_secs(10);
const WATCHED: Duration = Duration::from_secs(20);
const RUNS: usize = 3;
/// Names of info dicts and frames do not matter here, sizes do: frames of 4 MiB that compress to a third.
const FRAME: u64 = 4 << 20;

pub fn measure() -> Value {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| place.path().join(name);
    let mut random = Random(1);
    let mut rows = rows(ROWS, &key(NARINFO_KEY), &mut random);
    let infos: Vec<InfoDict> = rows.iter().map(info_dict).collect();
    for (row, info) in rows.iter_mut().zip(&infos) {
        (row.info_hash, row.payload_length) = (info.info_hash(), info.length);
    }
    let store = ChrootStore::create(&at("store"));
    store.register(
        rows.iter()
            .map(|row| (&row.store_path, &row.nar_hash, row.nar_size)),
    );
    let state = at("seedbox");
    fs::create_dir(&state).unwrap();
    let known = InfoDicts::open(&state.join("info.sqlite")).unwrap();
    let connected = infos.iter().step_by(ROWS / PEERS);
    infos.iter().for_each(|info| known.put(info).unwrap());
    drop(known);
    let assembled = assemble(None, ENCODER_ID, SYSTEM, rows).unwrap();
    write(&at("channel"), &header(&assembled, 1), &assembled);
    setting::print(
        "A seedbox that nobody asks",
        &[
            format!(
                "content: a made-up release of {ROWS} rows; all of them valid in the store's database, none of them on disk"
            ),
            format!(
                "peers: {PEERS}, connected to {PEERS} of the NARs, handshake done, silent since"
            ),
            format!(
                "median of {RUNS} stretches of {} s (smallest to largest), one process, {} s after its start",
                WATCHED.as_secs(),
                SETTLE.as_secs()
            ),
        ],
    );

    let sections = format!(
        "[hold]\nsource = \"store\"\nlocation = \"{}\"\n{}{}",
        store.root.display(),
        quiet_swarm("2MB/s"),
        release::channel(&key(CHANNEL_KEY).public().to_string(), &at("channel"))
    );
    let seedbox = NodeProcess::start("seedbox", &state, &sections);
    let status = seedbox.wait(|status| status["offer"]["paths"] == ROWS);
    let peers: Vec<TcpStream> = connected
        .map(|info| connect(seedbox.peer, info.info_hash()))
        .collect();
    thread::sleep(SETTLE);
    let [mut cpu, mut wakeups, mut memory] = std::array::from_fn(|_| Runs::default());
    for _ in 0..RUNS {
        let before = (seedbox.cpu(), seedbox.wakeups());
        thread::sleep(WATCHED);
        let seconds = WATCHED.as_secs_f64();
        cpu.push((seedbox.cpu() - before.0) * 100.0 / seconds);
        wakeups.push((seedbox.wakeups() - before.1) as f64 / seconds);
        memory.push(seedbox.memory("VmRSS") / 1e6);
    }
    let mut table = Table::new(["", "value"]);
    table.row(["percent of a core".to_owned(), format!("{cpu:.2}")]);
    table.row([
        "wake-ups a second, all threads".to_owned(),
        format!("{wakeups:.1}"),
    ]);
    table.row(["resident MB".to_owned(), format!("{memory:.1}")]);
    table.row([
        "its peak, MB".to_owned(),
        format!("{:.1}", seedbox.memory("VmHWM") / 1e6),
    ]);
    println!("{table}");
    drop(peers);
    json!({
        "offered": status["offer"]["paths"],
        "cpu_percent": rounded(cpu.median(), 2),
        "rss_mb": rounded(memory.median(), 1),
        "wakeups_per_s": rounded(wakeups.median(), 1),
    })
}

/// Says hello and takes what comes back.
fn connect(peer: std::net::SocketAddr, info_hash: InfoHash) -> TcpStream {
    let mut stream = TcpStream::connect(peer).unwrap();
    let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
    hello.extend(info_hash.as_bytes());
    hello.extend(b"-IDLE0-000000000000x");
    stream.write_all(&hello).unwrap();
    let mut answer = [0; 68];
    stream.read_exact(&mut answer).unwrap();
    stream
}

fn info_dict(row: &NewRow) -> InfoDict {
    let frames = row.nar_size.div_ceil(FRAME).max(1);
    let each = (row.payload_length / frames).max(1);
    let (length, piece_length) = (each * frames, piece_length(row.nar_size));
    InfoDict {
        name: format!("{}.nar.zst", row.nar_hash.base32()),
        length,
        piece_length,
        pieces: vec![[7; 20]; length.div_ceil(piece_length.into()) as usize],
        frames: Some(vec![each as u32; frames as usize]),
    }
}
