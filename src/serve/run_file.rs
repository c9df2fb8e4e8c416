//! `STATE/run.json`, and `run.json` in systemd's runtime directory: where the running node answers; also its ready line. Other commands find the node by it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::runtime::{Readers, write_new};

const NAME: &str = "run.json";

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
    /// Returns which of them could not be written, and why.
    pub fn write(&self, state: &Path) -> Vec<(PathBuf, io::Error)> {
        let line = self.line();
        let paths = directories(state).into_iter().map(|at| Self::path(&at));
        let write = |path: PathBuf| {
            // `status` needs no root.
            let written = write_new(&path, line.as_bytes(), Readers::Everybody);
            written.err().map(|error| (path, error))
        };
        paths.filter_map(write).collect()
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
