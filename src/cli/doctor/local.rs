//! What can be told from this machine alone: the running node, its channels, the clock, the store.

use jiff::Timestamp;

use crate::cli::status_page::span;
use crate::store::{Store, StoreUri};

use super::Patient;
use super::finding::Finding;

pub fn node(patient: &Patient) -> Finding {
    let role = patient.options.role.as_str();
    match &patient.status {
        Ok(status) => {
            let (version, share) = (&status["version"], &status["share"]);
            let (version, share) = (
                version.as_str().unwrap_or("?"),
                share.as_str().unwrap_or("?"),
            );
            Finding::ok(role, format!("runs, version {version}, share = {share}"))
        }
        Err(reason) => Finding::fail(
            role,
            reason,
            format!(
                "start it: systemctl start narswarm-{role} (or narswarm); then look at its journal"
            ),
        ),
    }
}

pub fn channels(patient: &Patient) -> Vec<Finding> {
    const WHAT: &str = "channel";
    let Ok(status) = &patient.status else {
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
        let ago = |key: &str| span(patient.now.saturating_sub(channel[key].as_u64().unwrap_or(0)));
        let newest = format!("{}: release {}, sequence {}", text("name"), text("release"), channel["sequence"]);
        match text("state").as_str() {
            "ok" if error.is_empty() => Finding::ok(WHAT, newest),
            "ok" => Finding::warn(WHAT, format!("{newest}; {error}"), "its source does not answer; what is there is used"),
            "stale" => Finding::warn(
                WHAT,
                format!("{newest}, expired {} ago", ago("expires")),
                "the publisher has not published, its news do not arrive, or the clock is wrong; what is there is used",
            ),
            _ => Finding::fail(
                WHAT,
                match error.is_empty() {
                    true => format!("{}: no release is here yet", text("name")),
                    false => format!("{}: no release is here yet; {error}", text("name")),
                },
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
        .ok()
        .and_then(|status| status["channels"].as_array());
    let created = channels
        .into_iter()
        .flatten()
        .filter_map(|channel| channel["created"].as_u64());
    let today = Timestamp::from_second(patient.now as i64).unwrap_or_default();
    let today = today.strftime("%F %H:%M UTC");
    match created.filter(|created| *created > 0).max() {
        Some(newest) if newest > patient.now => Finding::warn(
            WHAT,
            format!(
                "{today}, {} behind the newest release",
                span(newest - patient.now)
            ),
            "set it: freshness is judged wrongly, and https upstreams may be refused",
        ),
        Some(_) => Finding::ok(WHAT, format!("{today}, not behind the newest release")),
        None => Finding::unknown(WHAT, format!("{today}; no release to compare it with")),
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
            "let the service read it (Nix's database is /nix/var/nix/db), or correct [store] uri; until then nothing \
             is seeded from it",
        ),
        Err(error) => Finding::fail(WHAT, error.to_string(), "report this"),
    }
}
