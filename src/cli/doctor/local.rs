//! What can be told from this machine alone: the running node, its channels, the clock, the store, nix.conf.

use std::fs;
use std::path::Path;

use crate::config::Role;
use crate::store::{Store, StoreUri};

use super::Patient;
use super::finding::Finding;

const NIX_CONF_DIRECTORY: &str = "/etc/nix";

pub fn node(patient: &Patient) -> Finding {
    let role = patient.role.as_str();
    match &patient.status {
        Some(status) => {
            let (version, share) = (&status["version"], &status["share"]);
            let (version, share) = (
                version.as_str().unwrap_or("?"),
                share.as_str().unwrap_or("?"),
            );
            Finding::ok(role, format!("runs, version {version}, share = {share}"))
        }
        None => Finding::fail(
            role,
            format!(
                "none runs with the state directory {}",
                patient.options.state.display()
            ),
            format!(
                "start it: systemctl start narswarm-{role} (or narswarm); then look at its journal"
            ),
        ),
    }
}

pub fn channels(patient: &Patient) -> Vec<Finding> {
    const WHAT: &str = "channel";
    let Some(status) = &patient.status else {
        return vec![];
    };
    let channels = status["channels"].as_array();
    let channels = channels.map(Vec::as_slice).unwrap_or_default();
    if channels.is_empty() {
        let remedy = "add a [[channel]] with the link that its publisher gives";
        return vec![Finding::warn(WHAT, "none is followed", remedy)];
    }
    let findings = channels.iter().map(|channel| {
        let text = |key: &str| channel[key].as_str().unwrap_or_default().to_owned();
        let error = text("last_error");
        let newest = format!("{}: release {}, sequence {}", text("name"), text("release"), channel["sequence"]);
        match text("state").as_str() {
            "ok" if error.is_empty() => Finding::ok(WHAT, newest),
            "ok" => Finding::warn(WHAT, format!("{newest}; {error}"), "its source does not answer; what is there is used"),
            "stale" => Finding::warn(
                WHAT,
                format!("{newest}, expired"),
                "the publisher has not published, its news do not arrive, or the clock is wrong; what is there is used",
            ),
            _ => Finding::fail(
                WHAT,
                format!("{}: no release is here yet; {error}", text("name")),
                "give the channel a reachable peer ([swarm] peers, or x.pe in its link), or let the DHT through (UDP)",
            ),
        }
    });
    findings.collect()
}

/// Signatures need no clock, but freshness does, and so does TLS.
pub fn clock(patient: &Patient) -> Finding {
    const WHAT: &str = "clock";
    let channels = patient
        .status
        .as_ref()
        .and_then(|status| status["channels"].as_array());
    let created = channels
        .into_iter()
        .flatten()
        .filter_map(|channel| channel["created"].as_u64());
    match created.max() {
        Some(newest) if newest > patient.now => Finding::warn(
            WHAT,
            format!("{} s behind the newest release", newest - patient.now),
            "set it: freshness is judged wrongly, and https upstreams may be refused",
        ),
        Some(_) => Finding::ok(WHAT, "not behind the newest release"),
        None => Finding::unknown(WHAT, "no release to compare it with"),
    }
}

pub async fn store(patient: &Patient) -> Finding {
    const WHAT: &str = "store";
    let Some(StoreUri::Local { root }) = patient.options.store.clone() else {
        return Finding::unknown(WHAT, "payload files only");
    };
    let read = tokio::task::spawn_blocking(move || {
        let store = Store::open(root.as_deref())?;
        match store.has_database() {
            true => store.valid_hashes().map(|paths| Some(paths.len())),
            false => Ok(None),
        }
    });
    match read.await {
        Ok(Ok(Some(paths))) => Finding::ok(WHAT, format!("{paths} installed paths, readable")),
        Ok(Ok(None)) => Finding::warn(WHAT, "no Nix database", "install Nix, or set [store] uri"),
        Ok(Err(error)) => Finding::fail(
            WHAT,
            error.to_string(),
            "nothing can be seeded from it; see [store] uri",
        ),
        Err(error) => Finding::fail(WHAT, error.to_string(), "report this"),
    }
}

/// What Nix is told to do.
pub fn nix_conf(patient: &Patient) -> Option<Finding> {
    const WHAT: &str = "nix.conf";
    if patient.role != Role::Agent {
        return None;
    }
    // As Nix looks for it.
    let directory = std::env::var_os("NIX_CONF_DIR").unwrap_or_else(|| NIX_CONF_DIRECTORY.into());
    let path = Path::new(&directory).join("nix.conf");
    let Ok(text) = fs::read_to_string(&path) else {
        let found = format!("{} cannot be read", path.display());
        return Some(Finding::unknown(WHAT, found));
    };
    let shim = format!("http://{}", patient.options.shim);
    let lines = text
        .lines()
        .filter_map(|line| line.split('#').next()?.split_once('='));
    let values = |wanted: &'static str| {
        let lines = lines.clone().filter(move |(key, _)| {
            let key = key.trim();
            key == wanted || key.strip_prefix("extra-") == Some(wanted)
        });
        lines.flat_map(|(_, value)| value.split_whitespace())
    };
    let substituters: Vec<&str> = values("substituters").collect();
    let others = substituters
        .iter()
        .filter(|url| url.trim_end_matches('/') != shim)
        .count();
    let keys: Vec<&str> = values("trusted-public-keys").collect();
    let channel_key = patient
        .options
        .channels
        .iter()
        .find(|channel| keys.iter().any(|key| *key == channel.key.to_string()));
    if let Some(channel) = channel_key {
        let found = format!(
            "the key of channel {} is in trusted-public-keys",
            channel.name
        );
        let remedy = "take it out: a channel key must not sign packages";
        return Some(Finding::fail(WHAT, found, remedy));
    }
    Some(match (others == substituters.len(), others) {
        (true, _) => Finding::fail(
            WHAT,
            format!("{shim} is not among the substituters"),
            format!(
                "substituters = {shim}   (`narswarm setup`, or services.narswarm.agent.enable on NixOS)"
            ),
        ),
        (false, 0) => Finding::ok(WHAT, format!("{shim} is the only substituter")),
        (false, _) => Finding::warn(
            WHAT,
            format!("{others} other substituters are asked as well"),
            "make the agent the only one and list them as [[upstream]]: each costs 15 to 55 s per command when DNS is dead",
        ),
    })
}
