//! Size and speed of a manifest of 100,000 rows:
//! `cargo test --release --test measure_manifest -- --ignored --nocapture measure`
//!
//! Names, references and sizes are made up, shaped like those of a nixpkgs release (measured on cache.nixos.org's
//! path infos: names of 19 bytes on average, 8 references, most of them to the same few hundred paths).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use bytes::Bytes;
use narswarm::manifest::{Assembled, Header, Layer, NewRow, SignedManifest, assemble};
use narswarm::nix::{HashPart, NarHash, SecretKey, Signature, StoreDir, StorePath};
use narswarm::torrent::InfoHash;

const ROWS: usize = 100_000;
/// Of a hundred paths, those that a release replaces.
const NEW_PERCENT: u64 = 5;
const SYSTEM: &str = "x86_64-linux";
const LAYER_FILE: &str = "NARSWARM_MEASURE_LAYER";

const MOST_BYTES_PER_ROW: f64 = 230.0;
const MOST_PARSE_SECONDS: f64 = 0.5;
const MOST_UPDATE_FRACTION: f64 = 0.08;

/// splitmix64: the same rows in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.next() as u8)
    }
}

fn name(random: &mut Random) -> String {
    const PARTS: [&str; 20] = [
        "perl",
        "python3.13",
        "haskell",
        "lib",
        "texlive",
        "kde",
        "go",
        "rust",
        "r",
        "gnome",
        "vim",
        "http",
        "json",
        "test",
        "data",
        "utils",
        "core",
        "parser",
        "xml",
        "crypto",
    ];
    let mut name = PARTS[random.below(20) as usize].to_owned();
    for _ in 0..random.below(3) {
        name.push('-');
        name.push_str(PARTS[random.below(20) as usize]);
    }
    format!(
        "{name}-{}.{}.{}",
        random.below(9),
        random.below(40),
        random.below(20)
    )
}

/// Paths in order of popularity: the first ones are what everything refers to.
fn rows(random: &mut Random) -> Vec<NewRow> {
    let mut rows: Vec<NewRow> = Vec::with_capacity(ROWS);
    while rows.len() < ROWS {
        let base = name(random);
        let deriver =
            StorePath::new(HashPart::from_bytes(random.bytes()), &format!("{base}.drv")).unwrap();
        let outputs = match random.below(10) {
            0 => vec!["", "-dev", "-lib"],
            1 => vec!["", "-man"],
            2 => vec!["", "-dev", "-doc"],
            _ => vec![""],
        };
        for output in outputs {
            let mut row = row(random, &format!("{base}{output}"), &deriver, rows.len());
            let count = (-(1.0 - random.unit()).ln() * 8.5) as usize;
            let picked = (0..count).map(|_| (random.unit().powi(3) * rows.len() as f64) as usize);
            let picked: BTreeSet<usize> = picked.filter(|at| *at < rows.len()).collect();
            row.references = picked
                .iter()
                .map(|at| rows[*at].store_path.clone())
                .collect();
            if random.below(2) == 0 {
                row.references.push(row.store_path.clone());
            }
            rows.push(row);
        }
    }
    rows.truncate(ROWS);
    rows
}

fn row(random: &mut Random, name: &str, deriver: &StorePath, at: usize) -> NewRow {
    let nar_size = (200_000.0 * (random.unit() * 8.0 - 4.0).exp()) as u64 + 200;
    NewRow {
        store_path: StorePath::new(HashPart::from_bytes(random.bytes()), name).unwrap(),
        nar_hash: NarHash::from_bytes(random.bytes()),
        nar_size,
        payload_length: nar_size / 3,
        info_hash: InfoHash::from_bytes(random.bytes()),
        references: Vec::new(),
        signatures: vec![Signature {
            key_name: "cache.nixos.org-1".into(),
            bytes: std::array::from_fn(|_| random.next() as u8),
        }],
        ca: at
            .is_multiple_of(50)
            .then(|| format!("fixed:r:sha256:{}", "1".repeat(52))),
        deriver: (!at.is_multiple_of(20)).then(|| deriver.clone()),
    }
}

fn header(assembled: &Assembled, sequence: u64) -> Header {
    Header {
        channel: "measure".parse().unwrap(),
        release: "1".into(),
        sequence,
        created: 1,
        expires: 2,
        store_dir: StoreDir::default(),
        systems: vec![SYSTEM.into()],
        layers: assembled.layers.clone(),
        files: Vec::new(),
        trackers: Vec::new(),
        seedboxes: Vec::new(),
        bootstrap: Vec::new(),
    }
}

/// Seconds of CPU that this thread has used.
fn cpu() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Resident bytes of this process.
fn resident() -> f64 {
    let text = fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0
}

/// In a process of its own, so that memory freed before does not hide what a layer takes.
#[test]
#[ignore = "run by `measure`"]
fn child_parses() {
    let Ok(file) = std::env::var(LAYER_FILE) else {
        return;
    };
    let before = resident();
    let bytes = Bytes::from(fs::read(&file).unwrap());
    let loaded = resident();
    // The entry comes from the layer itself: only `assemble` can make one otherwise.
    let entry = {
        let signed = SignedManifest::parse(&fs::read(format!("{file}.manifest")).unwrap()).unwrap();
        let keys = [key().public()];
        let verified = signed
            .verify(&"measure".parse().unwrap(), &keys, 0)
            .unwrap();
        verified.header().layers[0].clone()
    };
    let mut seconds = Vec::new();
    for _ in 0..5 {
        let start = cpu();
        let layer = Layer::parse(bytes.clone(), &entry).unwrap();
        seconds.push(cpu() - start);
        drop(black_box(layer));
    }
    seconds.sort_by(f64::total_cmp);
    let parsed_before = resident();
    let layer = Layer::parse(bytes, &entry).unwrap();
    let index = resident() - parsed_before;
    println!(
        "parse (median of 5): {:.3} s CPU (worst {:.3}); layer {:.1} MB resident, index {:.1} MB more (total growth {:.1} MB)",
        seconds[2],
        seconds[4],
        (loaded - before) / 1e6,
        index / 1e6,
        (resident() - before) / 1e6,
    );
    look_up(&layer);
    assert!(seconds[2] <= MOST_PARSE_SECONDS);
}

fn look_up(layer: &Layer) {
    let mut random = Random(3);
    let picked: Vec<u32> = (0..ROWS)
        .map(|_| random.below(layer.len().into()) as u32)
        .collect();
    let keys: Vec<_> = picked
        .iter()
        .map(|at| layer.row(*at).unwrap())
        .map(|row| (row.hash_part(), row.info_hash()))
        .collect();
    let per_call = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / keys.len() as f64;
    let start = Instant::now();
    keys.iter()
        .for_each(|(part, _)| assert!(layer.find(part).is_some()));
    let by_hash = per_call(start);
    let start = Instant::now();
    keys.iter()
        .for_each(|(_, hash)| assert!(layer.find_info_hash(hash).is_some()));
    let by_info_hash = per_call(start);
    let start = Instant::now();
    for row in picked.iter().map(|at| layer.row(*at).unwrap()) {
        black_box((
            row.store_path(),
            row.nar_hash(),
            row.nar_size(),
            row.deriver(),
            row.ca(),
        ));
        black_box((row.references().count(), row.signatures().count()));
    }
    let read = per_call(start);
    println!(
        "look-up: {by_hash:.2} us by hash part, {by_info_hash:.2} us by info hash; reading a whole row {read:.2} us"
    );
}

fn key() -> SecretKey {
    let pair = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).to_keypair_bytes();
    format!("measure-1:{}", data_encoding::BASE64.encode(&pair))
        .parse()
        .unwrap()
}

#[test]
#[ignore = "a measurement: see the head of this file"]
fn measure() {
    let mut random = Random(1);
    let rows = rows(&mut random);
    let mean = |sum: usize| sum as f64 / ROWS as f64;
    println!(
        "{ROWS} rows, names of {:.1} bytes, {:.1} references, one signature each",
        mean(rows.iter().map(|row| row.store_path.name().len()).sum()),
        mean(rows.iter().map(|row| row.references.len()).sum()),
    );
    let start = cpu();
    let first = assemble(None, "nar-zstd-1.5.7-l3-4m", SYSTEM, rows.clone()).unwrap();
    let assembled = cpu() - start;
    let bytes = Bytes::from(first.new_layer.clone().unwrap());
    let per_row = mean(bytes.len());
    println!(
        "layer: {} bytes, {per_row:.1} per row (at most {MOST_BYTES_PER_ROW}); assembled in {assembled:.2} s CPU",
        bytes.len()
    );

    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("layer");
    fs::write(&file, &bytes).unwrap();
    let signed = SignedManifest::sign(&header(&first, 1), &key())
        .unwrap()
        .encode();
    fs::write(dir.path().join("layer.manifest"), &signed).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap());
    child
        .args([
            "--exact",
            "child_parses",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(LAYER_FILE, &file);
    let output = child.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines()
        .filter(|line| line.contains(" us ") || line.contains("CPU"))
        .for_each(|line| println!("{line}"));
    assert!(output.status.success(), "{text}");

    // The next release: one path in twenty has another hash part, and what refers to it refers to the new one. (In
    // nixpkgs what refers to a new path is new itself; the share of new paths is what is given here.)
    let layer = Layer::parse(bytes.clone(), &first.layers[0]).unwrap();
    let mut replaced = HashMap::new();
    let mut next = rows;
    // A new path is one of those that few refer to: the others would make everything new.
    for row in next
        .iter_mut()
        .rev()
        .take(ROWS * 2 * NEW_PERCENT as usize / 100)
        .step_by(2)
    {
        let path =
            StorePath::new(HashPart::from_bytes(random.bytes()), row.store_path.name()).unwrap();
        replaced.insert(row.store_path.clone(), path.clone());
        row.store_path = path;
        (row.nar_hash, row.info_hash) = (
            NarHash::from_bytes(random.bytes()),
            InfoHash::from_bytes(random.bytes()),
        );
    }
    for reference in next.iter_mut().flat_map(|row| &mut row.references) {
        if let Some(path) = replaced.get(reference) {
            *reference = path.clone();
        }
    }
    let before = header(&first, 1);
    let start = cpu();
    let second = assemble(
        Some((&before, &[layer])),
        "nar-zstd-1.5.7-l3-4m",
        SYSTEM,
        next,
    )
    .unwrap();
    let assembled = cpu() - start;
    let new = second.new_layer.as_ref().unwrap().len();
    let signed = SignedManifest::sign(&header(&second, 2), &key())
        .unwrap()
        .encode()
        .len();
    let new_rows = second.layers[1].rows;
    let fraction = (signed + new) as f64 / (bytes.len() + new + signed) as f64;
    println!(
        "update with {new_rows} new rows: header {signed} + layer {new} bytes; update_fraction {fraction:.4} (at most {MOST_UPDATE_FRACTION}); assembled in {assembled:.2} s CPU",
    );
    assert!(per_row <= MOST_BYTES_PER_ROW);
    assert!(fraction <= MOST_UPDATE_FRACTION);
}
