//! The promises of the program, kept by the real program among real programs: Nix, stock BitTorrent clients, kernels'
//! networks. One file per promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

mod bad_manifests;
mod bad_rows;
mod dead_dns;
mod demo;
mod discovery;
mod doctor;
mod exit_codes;
mod gossip;
mod hostile_neighbours;
mod many_nars_at_once;
mod publishing;
mod real_nix_substitutes;
mod release_files;
mod reload;
mod restarts;
mod run_file;
mod shim_answers;
mod stock_clients;
mod what_was_fetched_is_seeded_on;
