//! The real Nix as the demo's substituter client: a chroot store, its own configuration, signatures required.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

use crate::cli::exit::Failure;
use crate::nix::{PublicKey, StoreDir, StorePath};

/// Whether there is a Nix to use. Running it to find out would create `/nix` on some machines.
pub fn is_installed() -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join("nix-store").is_file())
}

/// `nix-store --realise` into `target`, with the shim as the only substituter. Nothing of the machine's own Nix is used.
pub async fn realise(
    target: &Path,
    home: &Path,
    root: &StorePath,
    shim: SocketAddr,
    key: &PublicKey,
) -> Result<(), Failure> {
    let conf = format!(
        "substituters = http://{shim}\ntrusted-public-keys = {key}\nrequire-sigs = true\nsandbox = false\nbuild-users-group =\n"
    );
    fs::create_dir_all(home)
        .and_then(|()| fs::write(home.join("nix.conf"), conf))
        .map_err(Failure::failed)?;
    let mut command = Command::new("nix-store");
    command
        .arg("--store")
        .arg(target)
        .arg("--realise")
        .arg(root.full(&StoreDir::default()))
        .env("NIX_CONF_DIR", home)
        .env("HOME", home)
        .env("XDG_CACHE_HOME", home)
        .env_remove("NIX_REMOTE")
        .env_remove("NIX_CONFIG")
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = command
        .output()
        .await
        .map_err(|error| Failure::failed(format!("cannot run nix-store: {error}")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "nix-store --realise failed: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}
