//! The rows of a made-up release, shaped like one of nixpkgs as cache.nixos.org's path infos show it: names of 19 bytes
//! on average, 8 references (counted over whole closures; most of them to the same few hundred paths), real NAR sizes,
//! one signature each, which verifies.

use std::collections::BTreeSet;

use narswarm::manifest::NewRow;
use narswarm::nix::{HashPart, NarHash, SecretKey, StoreDir, StorePath, fingerprint};
use narswarm::torrent::InfoHash;

use crate::random::Random;

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
/// NarSizes of real paths at each twentieth of their number, in the order of size.
const NAR_SIZES: [u64; 21] = [
    5_544,
    13_144,
    16_048,
    19_688,
    28_224,
    41_368,
    80_760,
    90_936,
    132_608,
    159_624,
    216_056,
    279_624,
    337_984,
    477_136,
    783_432,
    984_976,
    1_806_736,
    2_138_680,
    7_415_800,
    24_737_072,
    133_215_664,
];
const MEAN_REFERENCES: f64 = 8.5;

/// Paths in order of popularity: the first ones are what everything refers to.
pub fn rows(count: usize, key: &SecretKey, random: &mut Random) -> Vec<NewRow> {
    let mut rows: Vec<NewRow> = Vec::with_capacity(count);
    while rows.len() < count {
        let base = name(random);
        let deriver = path(random, &format!("{base}.drv"));
        let outputs = match random.below(10) {
            0 => vec!["", "-dev", "-lib"],
            1 => vec!["", "-man"],
            2 => vec!["", "-dev", "-doc"],
            _ => vec![""],
        };
        for output in outputs {
            let store_path = path(random, &format!("{base}{output}"));
            let references = references(random, &store_path, &rows);
            let row = row(random, store_path, references, &deriver, rows.len(), key);
            rows.push(row);
        }
    }
    rows.truncate(count);
    rows
}

fn name(random: &mut Random) -> String {
    let mut part = || PARTS[random.below(PARTS.len() as u64) as usize];
    let parts = [part(), part(), part()];
    let parts = parts[..1 + random.below(3) as usize].join("-");
    let version = [9, 40, 20].map(|bound| random.below(bound));
    format!("{parts}-{}.{}.{}", version[0], version[1], version[2])
}

fn path(random: &mut Random, name: &str) -> StorePath {
    StorePath::new(HashPart::from_bytes(random.bytes()), name).unwrap()
}

fn references(random: &mut Random, own: &StorePath, before: &[NewRow]) -> Vec<StorePath> {
    let count = (-(1.0 - random.unit()).ln() * MEAN_REFERENCES) as usize;
    let picked = (0..count).map(|_| (random.unit().powi(3) * before.len() as f64) as usize);
    let picked: BTreeSet<usize> = picked.filter(|at| *at < before.len()).collect();
    let others = picked.iter().map(|at| before[*at].store_path.clone());
    let itself = (random.below(2) == 0).then(|| own.clone());
    others.chain(itself).collect()
}

fn row(
    random: &mut Random,
    store_path: StorePath,
    references: Vec<StorePath>,
    deriver: &StorePath,
    at: usize,
    key: &SecretKey,
) -> NewRow {
    let nar_size = nar_size(random);
    let nar_hash = NarHash::from_bytes(random.bytes());
    let signed = fingerprint(
        &StoreDir::default(),
        &store_path,
        &nar_hash,
        nar_size,
        &references,
    );
    NewRow {
        store_path,
        nar_hash,
        nar_size,
        payload_length: nar_size / 3,
        info_hash: InfoHash::from_bytes(random.bytes()),
        references,
        signatures: vec![key.sign(signed.as_bytes())],
        ca: at
            .is_multiple_of(50)
            .then(|| format!("fixed:r:sha256:{}", "1".repeat(52))),
        deriver: (!at.is_multiple_of(20)).then(|| deriver.clone()),
    }
}

/// Between two neighbours of the table; NARs are multiples of 8 bytes.
fn nar_size(random: &mut Random) -> u64 {
    let at = random.below(NAR_SIZES.len() as u64 - 1) as usize;
    let (low, high) = (NAR_SIZES[at], NAR_SIZES[at + 1]);
    (low + random.below(high - low)) / 8 * 8
}
