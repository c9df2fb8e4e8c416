//! `payload`: the bytes of our payloads against what `nix copy` sends for the same NARs, and what encoding costs a core.

use narswarm::nix::NarHash;
use narswarm::payload::{FRAME_SIZE, describe};
use narswarm::torrent::{InfoDict, piece_length};
use serde_json::{Value, json};

use crate::cpu_time;
use crate::in_parallel::in_parallel;
use crate::nix_copy::{Compression, RealNix};
use crate::packages::{self, Package};
use crate::runs::{Runs, rounded};
use crate::setting;
use crate::table::Table;
use crate::zstd_variant::ZstdVariant;

const SAMPLE: u64 = 600_000_000;
const RUNS: usize = 3;
/// NARs that the real Nix is asked about, of moderate size: its answer shall not take minutes.
const ASKED: usize = 4;
const ASKED_SIZES: std::ops::Range<u64> = 2_000_000..20_000_000;

pub fn measure() -> Value {
    let packages = packages::sample(SAMPLE);
    let raw: u64 = packages.iter().map(Package::nar_size).sum();
    let mut sizes: Vec<u64> = packages.iter().map(Package::nar_size).collect();
    sizes.sort_unstable();
    setting::print(
        "Payload size and encoding speed on real content",
        &[
            format!(
                "content: {} installed Debian packages as NARs, {:.0} MB raw; NARs of {:.0} kB (median) to {:.0} MB",
                packages.len(),
                mb(raw),
                sizes[sizes.len() / 2] as f64 / 1e3,
                mb(sizes[sizes.len() - 1])
            ),
            format!(
                "speeds: raw MB per second of CPU on one thread, median of {RUNS} (smallest to largest)"
            ),
        ],
    );

    let speeds = speeds(&packages);
    let xz: u64 = in_parallel(&packages, |package| {
        Compression::Xz.compress(&package.nar()).len() as u64
    });
    let zstd: u64 = in_parallel(&packages, |package| {
        Compression::Zstd.compress(&package.nar()).len() as u64
    });
    let ours = speeds[0].length;

    let mut table = Table::new([
        "encoder",
        "MB",
        "% of raw",
        "vs nix zstd",
        "vs nix xz",
        "raw MB/s of a core",
    ]);
    let row = |name: String, length: u64, speed: String| {
        let part = |of: u64| format!("{:.4}", length as f64 / of as f64);
        let percent = format!("{:.2}", length as f64 * 100.0 / raw as f64);
        let mega = format!("{:.1}", mb(length));
        [name, mega, percent, part(zstd), part(xz), speed]
    };
    for measured in &speeds {
        table.row(row(
            measured.variant.name(),
            measured.length,
            format!("{:.0}", measured.speed),
        ));
    }
    table.row(row(Compression::Zstd.name(), zstd, String::new()));
    table.row(row(Compression::Xz.name(), xz, String::new()));
    println!("{table}");
    print_describing(&packages);
    ask_real_nix(&packages);
    print_info_dicts(ours as f64 / raw as f64);

    json!({
        "wire_vs_nix_zstd": rounded(ours as f64 / zstd as f64, 4),
        "wire_vs_nix_xz": rounded(ours as f64 / xz as f64, 4),
        "raw_mb_s_core": rounded(speeds[0].speed.median(), 0),
    })
}

struct Measured {
    variant: ZstdVariant,
    length: u64,
    speed: Runs,
}

/// Every variant on every NAR, one after the other: a busy moment of the machine hits them all.
fn speeds(packages: &[Package]) -> Vec<Measured> {
    let mut all = ZstdVariant::ALL.map(|variant| Measured {
        variant,
        length: 0,
        speed: Runs::default(),
    });
    let raw: u64 = packages.iter().map(Package::nar_size).sum();
    for _ in 0..RUNS {
        let mut seconds = ZstdVariant::ALL.map(|_| 0.0);
        all.iter_mut().for_each(|measured| measured.length = 0);
        for package in packages {
            let nar = package.nar();
            for (measured, seconds) in all.iter_mut().zip(&mut seconds) {
                let start = cpu_time::of_this_thread();
                measured.length += measured.variant.payload_length(&nar);
                *seconds += cpu_time::of_this_thread() - start;
            }
        }
        for (measured, seconds) in all.iter_mut().zip(seconds) {
            measured.speed.push(mb(raw) / seconds);
        }
    }
    all.into()
}

/// What a publisher does with each NAR: encoding, NarHash and piece hashes in one pass.
fn print_describing(packages: &[Package]) {
    let (mut seconds, mut raw) = (0.0, 0);
    for package in packages {
        let nar = package.nar();
        let start = cpu_time::of_this_thread();
        describe(&mut &nar[..], nar.len() as u64, |_| Ok(())).unwrap();
        seconds += cpu_time::of_this_thread() - start;
        raw += nar.len() as u64;
    }
    println!(
        "Describing (encoding, NarHash and piece hashes in one pass): {:.0} MB/s of a core; a full frame of {} MiB is \
         re-created in about {:.0} ms.\n",
        mb(raw) / seconds,
        FRAME_SIZE >> 20,
        FRAME_SIZE as f64 / 1e3 / (mb(raw) / seconds)
    );
}

fn ask_real_nix(packages: &[Package]) {
    let Some(nix) = RealNix::find() else {
        println!(
            "Nix is not installed: the two models of it were not compared with the real one.\n"
        );
        return;
    };
    let mut table = Table::new(["NAR", "MB", "zstd: real", "model", "xz: real", "model"]);
    let asked = packages
        .iter()
        .filter(|package| ASKED_SIZES.contains(&package.nar_size()));
    for package in asked.take(ASKED) {
        let nar = package.nar();
        let [zstd, xz] = Compression::ALL.map(|compression| {
            let real = nix.file_size(&package.name, &nar, compression);
            let model = compression.compress(&nar).len() as f64 / real as f64;
            (real.to_string(), format!("{:+.3} %", (model - 1.0) * 100.0))
        });
        let size = format!("{:.1}", mb(nar.len() as u64));
        table.row([package.name.clone(), size, zstd.0, zstd.1, xz.0, xz.1]);
    }
    println!(
        "The models against FileSize of the real `nix copy` ({}):",
        nix.version
    );
    println!("{table}");
}

/// What a peer must have before its first piece.
fn print_info_dicts(ratio: f64) {
    println!(
        "Piece length and info dict, for NARs that compress to {:.1} %:",
        ratio * 100.0
    );
    let mut table = Table::new([
        "payload",
        "piece length",
        "pieces",
        "frames",
        "info dict bytes",
        "of the payload",
    ]);
    for (name, payload) in [
        ("10 kB", 10_000_u64),
        ("60 kB", 60_000),
        ("1 MB", 1_000_000),
        ("100 MB", 100_000_000),
        ("1 GB", 1_000_000_000),
    ] {
        let info = info_dict(payload, (payload as f64 / ratio) as u64);
        let bytes = info.encode().len();
        table.row([
            name.to_owned(),
            format!("{} KiB", info.piece_length / 1024),
            info.piece_count().to_string(),
            info.frames.as_ref().map_or(0, Vec::len).to_string(),
            bytes.to_string(),
            format!("{:.3} %", bytes as f64 * 100.0 / payload as f64),
        ]);
    }
    println!("{table}");
}

/// With frames of one size: only the number of digits counts.
fn info_dict(payload: u64, nar: u64) -> InfoDict {
    let frames = nar.div_ceil(FRAME_SIZE as u64);
    let piece_length = piece_length(nar);
    InfoDict {
        name: format!("{}.nar.zst", NarHash::from_bytes([7; 32]).base32()),
        length: payload,
        piece_length,
        pieces: vec![[7; 20]; payload.div_ceil(piece_length.into()) as usize],
        frames: Some(vec![(payload / frames) as u32; frames as usize]),
    }
}

fn mb(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
