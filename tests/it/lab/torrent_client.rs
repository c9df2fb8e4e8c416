//! Stock BitTorrent clients, each without any discovery but trackers.

use std::{fs, path::Path, time::Duration};

use super::{ChildProcess, Place, wait_for};

/// Transmission lets 10 s pass before its first connection.
const PATIENCE: Duration = Duration::from_secs(120);
const TRANSMISSION_SETTINGS: &str = r#"{
    "dht-enabled": false, "lpd-enabled": false, "pex-enabled": false, "utp-enabled": false,
    "port-forwarding-enabled": false, "blocklist-enabled": false
}"#;

pub struct TorrentClient {
    _process: ChildProcess,
}

impl TorrentClient {
    /// Downloads `link` into `directory`.
    pub fn aria2(place: &Place, link: &str, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let mut command = place.command("aria2c");
        command.args([
            "--no-conf",
            "--enable-dht=false",
            "--enable-dht6=false",
            "--bt-enable-lpd=false",
        ]);
        command.args([
            "--seed-time=0",
            "--file-allocation=none",
            "--summary-interval=0",
            "--listen-port=6899",
        ]);
        command.arg("--dir").arg(directory).arg(link);
        Self {
            _process: ChildProcess::start(command, directory.parent().unwrap(), "aria2"),
        }
    }

    /// Downloads `link` (a magnet or a .torrent) into `directory`, and seeds what is there.
    pub fn transmission(place: &Place, link: &str, directory: &Path, port: u16) -> Self {
        let home = directory.with_extension("transmission");
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(directory).unwrap();
        fs::write(home.join("settings.json"), TRANSMISSION_SETTINGS).unwrap();
        let mut command = place.command("transmission-cli");
        command
            .env("HOME", &home)
            .arg("-g")
            .arg(&home)
            .arg("-w")
            .arg(directory);
        command
            .args(["--no-portmap", "--verify", "--port", &port.to_string()])
            .arg(link);
        Self {
            _process: ChildProcess::start(command, directory.parent().unwrap(), "transmission"),
        }
    }

    /// Until `file` has the bytes of `expected`.
    #[track_caller]
    pub fn wait_for(&self, file: &Path, expected: &[u8]) {
        wait_for("whole file from the client", PATIENCE, || {
            let length = fs::metadata(file).ok()?.len();
            (length == expected.len() as u64 && fs::read(file).ok()? == expected).then_some(())
        });
    }
}
