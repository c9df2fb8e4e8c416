//! `narswarm status`: asks the running node, and shows a page or the JSON.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::config::{Config, Size, state_directory};
use crate::serve::RunFile;

use super::args::StatusArgs;
use super::exit::{Failure, UNREACHABLE};

/// A node on this machine answers at once, or is stuck.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Where the service of `setup` and of the NixOS module says that it runs.
const RUNTIME_DIRECTORY: &str = "/run/narswarm";
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let state = state(&args)?;
    loop {
        let status = read(&state).await?;
        let page = if args.json {
            format!("{status}\n")
        } else {
            page(&status)
        };
        let mut stdout = std::io::stdout().lock();
        // Home and clear, so that the page stays in its place.
        let clear = if args.watch && !args.json && stdout.is_terminal() {
            "\x1b[H\x1b[2J"
        } else {
            ""
        };
        if write!(stdout, "{clear}{page}")
            .and_then(|()| stdout.flush())
            .is_err()
            || !args.watch
        {
            return Ok(());
        }
        drop(stdout);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}

fn state(args: &StatusArgs) -> Result<PathBuf, Failure> {
    if let Some(file) = &args.config {
        let (_, config) = Config::read_either(file).map_err(Failure::usage)?;
        return Ok(config.options.state);
    }
    // The state of a service with a dynamic user cannot be read by others.
    let service = PathBuf::from(RUNTIME_DIRECTORY);
    match &args.state {
        None if RunFile::path(&service).exists() => Ok(service),
        state => Ok(state_directory(state.clone())),
    }
}

async fn read(state: &std::path::Path) -> Result<Value, Failure> {
    let path = RunFile::path(state);
    let unreachable = |reason: String| Failure::new(UNREACHABLE, reason);
    let run_file = RunFile::read(state).map_err(|error| {
        unreachable(format!(
            "no agent runs here: cannot read {}: {error}",
            path.display()
        ))
    })?;
    let url = format!("http://{}/status.json", run_file.shim);
    let failed = |error: reqwest::Error| {
        unreachable(format!(
            "the {} of {} (pid {}) does not answer at {url}: {error}",
            run_file.role,
            path.display(),
            run_file.pid
        ))
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()
        .map_err(failed)?;
    let text = client
        .get(&url)
        .send()
        .await
        .map_err(failed)?
        .text()
        .await
        .map_err(failed)?;
    serde_json::from_str(&text)
        .map_err(|error| unreachable(format!("{url} does not speak our language: {error}")))
}

/// The page for people.
fn page(status: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let size = |value: &Value| Size(value.as_u64().unwrap_or(0)).to_string();
    let mut page = format!(
        "narswarm {} {}, up {} s, share = {}\n  for Nix {}   for peers {}\n",
        text(&status["role"]),
        text(&status["version"]),
        status["uptime_s"],
        text(&status["share"]),
        text(&status["addresses"]["shim"]),
        text(&status["addresses"]["peer"]),
    );
    for channel in list(&status["channels"]) {
        page += &format!(
            "channel {}: {}, release {}, sequence {}, {} paths\n",
            text(&channel["name"]),
            text(&channel["state"]),
            text(&channel["release"]),
            channel["sequence"],
            channel["paths"],
        );
        if let Some(error) = channel["last_error"].as_str() {
            page += &format!("  {error}\n");
        }
    }
    let (offer, swarm, bytes) = (&status["offer"], &status["swarm"], &status["bytes"]);
    page += &format!(
        "offered: {} paths, {}",
        offer["paths"],
        size(&offer["bytes"])
    );
    if offer["withdrawn"].as_u64().unwrap_or(0) > 0 {
        page += &format!(", {} withdrawn", offer["withdrawn"]);
    }
    page += &format!(
        "\npeers: {} known, {} answered, uploading to {}\n",
        swarm["peers"], swarm["reachable"], swarm["uploading_to"]
    );
    page += &format!(
        "served: {} from the store, {} from the swarm, {} from upstreams; given: {}\n",
        size(&bytes["store"]),
        size(&bytes["swarm"]),
        size(&bytes["upstream"]),
        size(&bytes["uploaded"]),
    );
    for download in list(&status["downloads"]) {
        page += &format!(
            "  {} of {} from {}: {}\n",
            size(&download["done"]),
            size(&download["size"]),
            text(&download["source"]),
            text(&download["store_path"]),
        );
    }
    for upstream in list(&status["upstreams"]) {
        page += &format!(
            "upstream {}: {}",
            text(&upstream["url"]),
            text(&upstream["state"])
        );
        page += &upstream["last_error"]
            .as_str()
            .map(|error| format!(" ({error})"))
            .unwrap_or_default();
        page.push('\n');
    }
    if status["refused_404"].as_u64().unwrap_or(0) > 0 {
        page += &format!(
            "{} narinfos answered 404 because an upstream was down: Nix builds these\n",
            status["refused_404"]
        );
    }
    for error in list(&status["errors"]) {
        page += &format!("! {}\n", text(error));
    }
    page
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
