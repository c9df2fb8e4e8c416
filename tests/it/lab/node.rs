//! A running agent or seedbox.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::Value;

use super::{
    ChildProcess, Clock, NodeConfig, Outcome, PROGRAM, Place, Response, http_client, wait_for,
};

/// From the start to the ready line; a busy machine with two cores runs several tests at once.
const START: Duration = Duration::from_secs(60);
/// The program gives its transfers a second.
const STOP: Duration = Duration::from_secs(20);
/// A new manifest in a directory is seen within 5 s, what Nix has installed within 2 s.
const NEWS: Duration = Duration::from_secs(60);

pub struct Node {
    process: ChildProcess,
    place: Place,
    clock: Clock,
    state: PathBuf,
    /// The ready line.
    pub ready: Value,
    pub shim: SocketAddr,
    pub peer: SocketAddr,
}

impl Node {
    #[track_caller]
    pub fn start(config: &NodeConfig) -> Self {
        Self::start_in(&Place::Here, config)
    }

    #[track_caller]
    pub fn start_in(place: &Place, config: &NodeConfig) -> Self {
        let file = config.write();
        let name = config
            .state
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let mut command = place.command(PROGRAM);
        command.arg(config.role).arg("--config").arg(file);
        config.clock.set(&mut command);
        command.env("RUST_LOG", "warn,narswarm=debug,librqbit=warn");
        let mut process = ChildProcess::start(command, config.state.parent().unwrap(), &name);
        let ready: Value =
            process.line("ready line", START, |line| serde_json::from_str(line).ok());
        let address = |key: &str| ready[key].as_str().unwrap().parse::<SocketAddr>().unwrap();
        let (shim, peer) = (address("shim"), address("peer"));
        Self {
            process,
            place: place.clone(),
            clock: config.clock,
            state: config.state.clone(),
            ready,
            shim,
            peer,
        }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its configuration's name, and its state directory's.
    pub fn name(&self) -> &str {
        self.state.file_name().unwrap().to_str().unwrap()
    }

    pub fn place(&self) -> &Place {
        &self.place
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    /// `narswarm status --json`, as a person would call it.
    #[track_caller]
    pub fn status(&self) -> Value {
        let mut command = self.place.command(PROGRAM);
        command
            .args(["status", "--json", "--state"])
            .arg(&self.state);
        Outcome::of(command).success().json()
    }

    /// `narswarm doctor --json`, in its place and with its clock; nothing is asked of this machine's own nix.conf.
    #[track_caller]
    pub fn doctor(&self) -> Value {
        let mut command = self.place.command(PROGRAM);
        self.clock.set(&mut command);
        let config = self.state.with_extension("toml");
        command.args(["doctor", "--json", "--config"]).arg(config);
        command.env("NIX_CONF_DIR", &self.state);
        Outcome::of(command).json()
    }

    /// One of the counters under `bytes`.
    #[track_caller]
    pub fn bytes(&self, counter: &str) -> u64 {
        let status = self.status();
        let bytes = status["bytes"][counter].as_u64();
        bytes.unwrap_or_else(|| panic!("no bytes.{counter} in {status}"))
    }

    /// The status as soon as `condition` holds for it.
    #[track_caller]
    pub fn wait(&self, what: &str, condition: impl Fn(&Value) -> bool) -> Value {
        wait_for(what, NEWS, || Some(self.status()).filter(&condition))
    }

    /// Until the first channel is in the catalog.
    #[track_caller]
    pub fn wait_for_channel(&self) -> Value {
        self.wait("channel that is ok", |status| {
            status["channels"][0]["state"] == "ok"
        })
    }

    /// Until so many paths can be seeded.
    #[track_caller]
    pub fn wait_for_offer(&self, paths: usize) -> Value {
        self.wait(&format!("offer of {paths} paths"), |status| {
            status["offer"]["paths"] == paths
        })
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Response {
        http_client::request_in(&self.place, self.shim, "GET", path, &[])
    }

    /// The most memory that it ever had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Has it read its configuration again.
    pub fn hang_up(&self) {
        self.process.signal("HUP");
    }

    /// Ends it in order.
    #[track_caller]
    pub fn stop(mut self) {
        self.process.terminate();
        let status = self.process.wait(STOP);
        assert_eq!(status.code(), Some(0), "{}", self.process.stderr());
    }

    /// As if the power went.
    pub fn kill(mut self) {
        self.process.kill();
    }
}
