//! What the project says of itself in figures, measured anew: one file per measurement, each run by `tests/show NAME`.
//!
//! A measurement prints its setting, a table that a person can judge it by, and as its last line one JSON object.

#![allow(
    clippy::unwrap_used,
    reason = "a measurement that cannot go on shall stop and say where"
)]

#[path = "../lab/mod.rs"]
mod lab;

mod announce;
mod bad_peer;
mod binary_cache;
mod block_client;
mod chroot_store;
mod closure;
mod closure_lab;
mod content;
mod cpu_time;
mod crowd;
mod delay_line;
mod first_byte;
mod fixed_tracker;
mod hosts;
mod idle;
mod in_parallel;
mod large_nar;
mod link_meter;
mod long_link;
mod long_tail;
mod made_up_release;
mod made_up_rows;
mod manifest;
mod memory_storage;
mod need;
mod never_slower;
mod nginx;
mod nix_client;
mod nix_copy;
mod node_process;
mod packages;
mod payload;
mod publisher;
mod random;
mod recreate;
mod release;
mod runs;
mod serve;
mod setting;
mod small_nars;
mod started;
mod stock_downloader;
mod stock_seeder;
mod table;
mod topic_traffic;
mod unit;
mod update;
mod zstd_variant;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let result = match arguments[..] {
        ["payload"] => payload::measure(),
        ["manifest"] => manifest::measure(),
        ["small-nars"] => small_nars::measure(),
        ["large-nar"] => large_nar::measure(),
        ["closure"] => closure::measure(),
        ["long-tail"] => long_tail::measure(),
        ["unit"] => unit::measure(),
        ["never-slower"] => never_slower::measure(),
        ["crowd"] => crowd::measure(),
        ["crowd-closure"] => crowd::measure_closure(),
        ["idle"] => idle::measure(),
        ["recreate"] => recreate::measure(),
        ["long-link"] => long_link::measure(),
        ["serve"] => serve::measure(),
        ["announce"] => announce::measure(),
        ["topic-traffic"] => topic_traffic::measure(),
        ["update"] => update::measure(),
        ["first-byte"] => first_byte::measure(),
        // The processes that measurements start.
        [fixed_tracker::FIXED_TRACKER, listen, peer] => return fixed_tracker::run(listen, peer),
        [manifest::LOAD, shelf] => return manifest::load(shelf.as_ref()),
        [bad_peer::BAD_PEER, listen, infos] => return bad_peer::run(listen, infos.as_ref()),
        [delay_line::DELAY_LINE, one, other, delay_ms] => {
            return delay_line::run(one, other, delay_ms);
        }
        [stock_seeder::SEED, files, torrents] => {
            return stock_seeder::seed(files.as_ref(), torrents.as_ref());
        }
        _ => {
            eprintln!("usage: measure NAME, one of those that tests/show lists");
            return ExitCode::from(2);
        }
    };
    println!("{result}");
    ExitCode::SUCCESS
}
