//! The node that runs on this machine: where it says that it answers, and what it answers.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Client;
use serde_json::Value;

use crate::config::{Config, Role, state_directory};
use crate::serve::RunFile;

use super::args::WhichNode;
use super::config_file;
use super::exit::{Failure, UNREACHABLE};

/// A node on this machine answers at once, or is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where the service of `setup` and of the NixOS module says that it runs.
const RUNTIME_DIRECTORY: &str = "/run/narswarm";

pub struct RunningNode {
    run_file: RunFile,
    client: Client,
}

/// The directory that names the node, which need not run.
pub fn directory(which: &WhichNode) -> Result<PathBuf, Failure> {
    if let Some(file) = &which.config {
        let config = Config::read_either(file).map_err(config_file::unusable)?;
        return Ok(config.options.state);
    }
    // The state of a service with a dynamic user cannot be read by others.
    let service = PathBuf::from(RUNTIME_DIRECTORY);
    match &which.state {
        None if RunFile::path(&service).exists() => Ok(service),
        state => Ok(state_directory(state.clone())),
    }
}

impl RunningNode {
    pub fn find(directory: &Path) -> Result<Self, Failure> {
        let path = RunFile::path(directory);
        let run_file = RunFile::read(directory).map_err(|error| unreadable(&path, &error))?;
        let client = Client::builder().no_proxy().timeout(TIMEOUT).build();
        Ok(Self {
            run_file,
            client: client.map_err(Failure::failed)?,
        })
    }

    /// The node with this state directory, which may be a service's with a dynamic user.
    pub fn with_state(state: &Path) -> Result<Self, Failure> {
        let same = |node: &Self| node.state() == state;
        Self::find(state).or_else(|failure| {
            let service = Self::find(Path::new(RUNTIME_DIRECTORY));
            service.ok().filter(same).ok_or(failure)
        })
    }

    pub fn shim(&self) -> SocketAddr {
        self.run_file.shim
    }

    pub fn role(&self) -> Option<Role> {
        let roles = [Role::Agent, Role::Seedbox];
        roles
            .into_iter()
            .find(|role| role.as_str() == self.run_file.role)
    }

    pub fn state(&self) -> &Path {
        &self.run_file.state
    }

    /// Its whole status.
    pub async fn status(&self) -> Result<Value, Failure> {
        let RunFile {
            role, shim, pid, ..
        } = &self.run_file;
        let url = format!("http://{shim}/status.json");
        let failed = |error: reqwest::Error| {
            unreachable(format!(
                "the {role} with pid {pid} does not answer at {url}: {error}"
            ))
        };
        let answer = self.client.get(&url).send().await.map_err(failed)?;
        let text = answer.text().await.map_err(failed)?;
        serde_json::from_str(&text)
            .map_err(|error| unreachable(format!("{url} does not speak our language: {error}")))
    }
}

/// A run file that is not there is a node that does not run; one that is closed to this user says nothing.
fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let path = path.display();
    unreachable(match error.kind() {
        io::ErrorKind::NotFound => format!(
            "nothing runs here: there is no {path}. Start one (systemctl start narswarm-agent), or name it with \
             --config or --state"
        ),
        io::ErrorKind::PermissionDenied => {
            format!("cannot tell whether a node runs here: {path}: {error}. Ask as root")
        }
        _ => format!("cannot tell where the node answers: {path}: {error}"),
    })
}

fn unreachable(reason: String) -> Failure {
    Failure::new(UNREACHABLE, reason)
}
