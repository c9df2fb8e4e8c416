//! The promises of the program, kept by the real program among real programs: Nix, stock BitTorrent clients, kernels'
//! networks. One file per promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod lab;

mod bad_downloaders;
mod bad_manifests;
mod bad_peers;
mod bad_rows;
mod bad_upstreams;
mod cache_bounds;
mod channel_link;
mod clock_years_off;
mod crowd;
mod dead_dns;
mod demo;
mod discovery;
mod doctor;
mod exit_codes;
mod fetched_ahead;
mod full_state;
mod gossip;
mod host_names;
mod hostile_neighbours;
mod idle_work;
mod kill_nine;
mod many_nars_at_once;
mod metrics;
mod named_by_the_header;
mod nat;
mod nix_and_failures;
mod passwords;
mod paths_leave_the_offer;
mod poisoned_dht;
mod port_mapping;
mod publishing;
mod real_nix_substitutes;
mod release_files;
mod reload;
mod restarts;
mod run_file;
mod several_channels;
mod share_on_the_wire;
mod shared_fetches;
mod shim_answers;
mod stock_clients;
mod torrents;
mod trackers;
mod trust_over_time;
mod upload_limits;
mod upstream_nars_are_seeded;
mod what_was_fetched_is_seeded_on;
mod wrong_software;
