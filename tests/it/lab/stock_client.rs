//! Stock BitTorrent clients, each without any discovery but trackers, and writing what it gets to disk at once: what one
//! had when it was killed can be read from its file.

use std::{
    env,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use sha1::{Digest as _, Sha1};

use super::{ChildProcess, Need, Place, librqbit_client, scripted_peer::Payload, wait_for};

/// Where each of them listens, on a host of its own.
pub const PORT: u16 = 6899;
/// Transmission lets 10 s pass before its first connection.
const PATIENCE: Duration = Duration::from_secs(90);
const TRANSMISSION_SETTINGS: &str = r#"{
    "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
    "port-forwarding-enabled": false, "blocklist-enabled": false,
    "cache-size-mb": 0, "rename-partial-files": false
}"#;
/// `tests/run` names one that has libtorrent's bindings.
const PYTHON: &str = "NARSWARM_PYTHON";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stock {
    Aria2,
    Transmission,
    Libtorrent,
    Librqbit,
}

pub struct StockClient {
    process: ChildProcess,
    directory: PathBuf,
}

impl Stock {
    /// Whether it is on this machine; if not, that is said.
    pub fn is_here(self, test: &str) -> bool {
        match self {
            Self::Aria2 => Need::all(test, &[Need::Program("aria2c")]),
            Self::Transmission => Need::all(test, &[Need::Program("transmission-cli")]),
            Self::Librqbit => true,
            Self::Libtorrent => {
                let import = Command::new(python())
                    .args(["-c", "import libtorrent"])
                    .output();
                let works = import.is_ok_and(|output| output.status.success());
                let why = "Python has no libtorrent";
                match env::var_os(PYTHON) {
                    _ if works => {}
                    // Whoever names one means it.
                    Some(_) => Need::not_run(test, why),
                    None => Need::optional(test, why),
                }
                works
            }
        }
    }

    /// Downloads `link` (a magnet or a .torrent) into `directory` and seeds it. What is there already is checked, and not
    /// downloaded again.
    pub fn start(self, place: &Place, link: &str, directory: &Path) -> StockClient {
        fs::create_dir_all(directory).unwrap();
        let command = match self {
            Self::Aria2 => aria2(place, link, directory),
            Self::Transmission => transmission(place, link, directory),
            Self::Libtorrent => libtorrent(place, link, directory),
            Self::Librqbit => librqbit_client::command(place, link, directory),
        };
        let name = format!("{self:?}-{}", directory.file_name().unwrap().display());
        StockClient {
            process: ChildProcess::start(command, directory.parent().unwrap(), &name),
            directory: directory.to_owned(),
        }
    }
}

impl StockClient {
    /// Until its file is the whole payload.
    #[track_caller]
    pub fn wait_for(&self, payload: &Payload) {
        let file = self.directory.join(&payload.info.name);
        wait_for("whole file from the client", PATIENCE, || {
            let length = fs::metadata(&file).ok()?.len();
            (length == payload.info.length && fs::read(&file).ok()? == **payload.bytes)
                .then_some(())
        });
    }

    /// As if the power went. Returns how many bytes of finished pieces its file has.
    pub fn kill(mut self, payload: &Payload) -> u64 {
        self.process.kill();
        let file = File::open(self.directory.join(&payload.info.name)).unwrap();
        let finished = |piece: &u32| {
            let range = payload.info.piece_range(*piece);
            let mut bytes = vec![0; (range.end - range.start) as usize];
            file.read_exact_at(&mut bytes, range.start).is_ok()
                && payload.info.piece_hash(*piece) == Some(&Sha1::digest(&bytes).into())
        };
        let pieces = (0..payload.info.piece_count()).filter(finished);
        pieces
            .map(|piece| u64::from(payload.info.piece_len(piece)))
            .sum()
    }
}

fn aria2(place: &Place, link: &str, directory: &Path) -> Command {
    let mut command = place.command("aria2c");
    command.args([
        "--no-conf",
        "--enable-dht=false",
        "--enable-dht6=false",
        "--bt-enable-lpd=false",
        "--check-integrity=true",
        "--seed-ratio=0.0",
        "--disk-cache=0",
        "--auto-save-interval=0",
        "--file-allocation=none",
        "--summary-interval=0",
        &format!("--listen-port={PORT}"),
    ]);
    command.arg("--dir").arg(directory).arg(link);
    command
}

fn transmission(place: &Place, link: &str, directory: &Path) -> Command {
    let home = directory.with_extension("transmission");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("settings.json"), TRANSMISSION_SETTINGS).unwrap();
    let mut command = place.command("transmission-cli");
    command.env("HOME", &home).arg("-g").arg(&home);
    command.arg("-w").arg(directory);
    command.args([
        "--no-portmap",
        "--verify",
        "--port",
        &PORT.to_string(),
        link,
    ]);
    command
}

fn libtorrent(place: &Place, link: &str, directory: &Path) -> Command {
    let script = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/it/lab/libtorrent_client.py"
    );
    let mut command = place.command(python());
    command
        .args([script, link])
        .arg(directory)
        .arg(PORT.to_string());
    command
}

fn python() -> String {
    env::var(PYTHON).unwrap_or("python3".to_owned())
}
