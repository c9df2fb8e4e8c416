//! `STATE/run.json`, and `run.json` in systemd's runtime directory: where the running node answers; also its ready line. Other commands find the node by it.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

const NAME: &str = "run.json";
/// Readable for every user of the machine: `status` needs no root.
const MODE: u32 = 0o644;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    pub event: String,
    pub role: String,
    pub shim: SocketAddr,
    pub peer: SocketAddr,
    pub pid: u32,
    /// The state directory.
    pub state: PathBuf,
}

impl RunFile {
    pub fn path(state: &Path) -> PathBuf {
        state.join(NAME)
    }

    pub fn read(state: &Path) -> io::Result<Self> {
        serde_json::from_slice(&fs::read(Self::path(state))?).map_err(io::Error::other)
    }

    pub fn line(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Writes it to the state directory, and to the runtime directory that systemd gives: a dynamic user's state is
    /// closed to everybody else.
    pub fn write(&self, state: &Path) -> io::Result<()> {
        for directory in directories(state) {
            let mut file = tempfile::Builder::new()
                .prefix(".run-")
                .tempfile_in(&directory)?;
            file.write_all(self.line().as_bytes())?;
            file.as_file()
                .set_permissions(fs::Permissions::from_mode(MODE))?;
            file.persist(Self::path(&directory))?;
        }
        Ok(())
    }

    /// Nobody shall ask a node that has ended.
    pub fn remove(state: &Path) {
        for directory in directories(state) {
            let _ = fs::remove_file(Self::path(&directory));
        }
    }
}

fn directories(state: &Path) -> Vec<PathBuf> {
    let runtime = std::env::var_os("RUNTIME_DIRECTORY").map(PathBuf::from);
    [state.to_owned()].into_iter().chain(runtime).collect()
}
