//! The NixOS module: every file parses; with `NIXPKGS=PATH` (a tree of nixpkgs) it is evaluated among the modules of a
//! real NixOS, and units, nix.conf, firewall, refusals and the VM test are what they are meant to be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "module/evaluation.rs"]
mod evaluation;
#[path = "module/files.rs"]
mod files;
#[path = "lab/mod.rs"]
mod lab;
#[path = "module/nix_conf.rs"]
mod nix_conf;
#[path = "module/publisher.rs"]
mod publisher;
#[path = "module/refusals.rs"]
mod refusals;
#[path = "module/settings.rs"]
mod settings;
#[path = "module/setup.rs"]
mod setup;
#[path = "module/units.rs"]
mod units;
#[path = "module/vm.rs"]
mod vm;

use std::path::Path;
use std::process::Output;

const NARSWARM: &str = env!("CARGO_BIN_EXE_narswarm");
/// What the stub of nixpkgs calls our program.
const STUB: &str = "/nix/store/00000000000000000000000000000000-narswarm/bin/narswarm";
const CACHE_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[track_caller]
fn must_succeed(output: &Output) {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert!(output.status.success(), "{stdout}{stderr}");
}
