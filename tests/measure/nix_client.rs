//! The real Nix as a client of a binary cache: realises a closure into a new store, and tells when it did what.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::lab::Place;
use crate::lab::make_writable;
use crate::need;

/// Another `nix-store` than the one in PATH.
const PROGRAM: &str = "NARSWARM_NIX_STORE";
const CONF: &str = "build-users-group =\nsandbox = false\nsubstituters =\n";

pub struct NixClient {
    program: PathBuf,
    pub version: String,
    work: PathBuf,
    runs: u32,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
pub struct Realised {
    pub seconds: f64,
    /// From the start to the first NAR: cache-info and narinfos.
    pub until_first_nar: f64,
    /// From the start of the last NAR to the end.
    pub from_last_nar: f64,
    /// Seconds of CPU.
    pub cpu: f64,
}

impl NixClient {
    pub fn new(work: &Path) -> Self {
        let program = std::env::var_os(PROGRAM).map_or_else(
            || {
                need::program("nix-store", "nix-bin");
                PathBuf::from("nix-store")
            },
            PathBuf::from,
        );
        fs::create_dir_all(work.join("conf")).unwrap();
        fs::write(work.join("conf/nix.conf"), CONF).unwrap();
        let output = Command::new(&program)
            .arg("--version")
            .env("NIX_CONF_DIR", work.join("conf"))
            .output()
            .unwrap();
        Self {
            program,
            version: String::from_utf8_lossy(&output.stdout).trim().to_owned(),
            work: work.to_owned(),
            runs: 0,
        }
    }

    /// Into the client's store.
    pub fn realise(&mut self, at: &Place, path: &str, substituter: &str, key: &str) -> Realised {
        self.runs += 1;
        let store = self.work.join("client");
        let home = self.work.join(format!("home-{}", self.runs));
        let mut command = at.command(&self.program);
        command
            .args(["--realise", path, "--store"])
            .arg(&store)
            .args(["--option", "substituters", substituter])
            .args(["--option", "trusted-public-keys", key])
            .args(["--option", "require-sigs", "true"])
            .env("NIX_CONF_DIR", self.work.join("conf"))
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("HOME", &home)
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let (start, cpu) = (Instant::now(), cpu_of_children());
        let mut child = command.spawn().unwrap();
        let (mut said, mut nars) = (String::new(), Vec::new());
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            let line = line.unwrap();
            if line.starts_with("copying path ") {
                nars.push(start.elapsed().as_secs_f64());
            }
            said = format!("{said}{line}\n");
        }
        let status = child.wait().unwrap();
        let seconds = start.elapsed().as_secs_f64();
        assert!(status.success(), "{command:?}: {said}");
        Realised {
            seconds,
            until_first_nar: nars.first().copied().unwrap_or(seconds),
            from_last_nar: seconds - nars.last().copied().unwrap_or(seconds),
            cpu: cpu_of_children() - cpu,
        }
    }

    /// The next run finds nothing. A store is read-only, and so could not be removed as it is.
    pub fn remove_store(&self) {
        let store = self.work.join("client");
        if store.exists() {
            make_writable(&store);
            fs::remove_dir_all(&store).unwrap();
        }
    }
}

impl Drop for NixClient {
    fn drop(&mut self) {
        self.remove_store();
    }
}

/// Of all children that have ended.
fn cpu_of_children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (usage.user_time() + usage.system_time()).num_microseconds() as f64 / 1e6
}
