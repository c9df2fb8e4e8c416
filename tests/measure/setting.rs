//! Where a measurement was made: without that no figure means anything.

use std::fs;

use narswarm::payload::ENCODER_ID;

/// The version of the engine that we download with and are compared with, as Cargo.lock has it.
pub fn librqbit_version() -> String {
    let lock = include_str!("../../Cargo.lock");
    let mut lines = lock
        .lines()
        .skip_while(|line| *line != "name = \"librqbit\"");
    let version = lines
        .nth(1)
        .and_then(|line| line.strip_prefix("version = "));
    version.unwrap_or("?").trim_matches('"').to_owned()
}

/// Prints the machine, the versions and what is measured.
pub fn print(title: &str, details: &[String]) {
    let cpus = std::thread::available_parallelism().map_or(0, usize::from);
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let cpu_info = read("/proc/cpuinfo");
    let model = cpu_info
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "))
        .map_or("unknown", |(_, model)| model);
    let load = read("/proc/loadavg");
    let load = load.split(' ').next().unwrap_or("?");
    println!("{title}");
    println!(
        "  machine: {cpus} CPUs ({model}), Linux {}, load at the start {load}",
        read("/proc/sys/kernel/osrelease").trim()
    );
    println!(
        "  versions: narswarm {}, encoder {ENCODER_ID}, librqbit {}, zstd {}",
        env!("CARGO_PKG_VERSION"),
        librqbit_version(),
        zstd::zstd_safe::version_string(),
    );
    if cfg!(debug_assertions) {
        println!("  NOT A RELEASE BUILD: the figures mean nothing");
    }
    for detail in details {
        println!("  {detail}");
    }
    println!();
}
