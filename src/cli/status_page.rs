//! The page of `narswarm status`: what a person wants to know of a node, in the order in which they want it.
//!
//! ```text
//! narswarm agent 0.1.0, up 3 h 12 min, share = lan
//!   Nix asks 127.0.0.1:8642, peers reach [::]:6881
//!
//! Channels
//!   nixos-unstable  ok  26.11pre812345 of 3 h ago, fresh for 29 d, 98233 paths
//! ...
//! ```

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use crate::config::Size;

/// Lines of accounting; `--json` has a month.
const ACCOUNTS: usize = 8;
/// How wide the bar of a download is.
const BAR: u64 = 20;

pub fn page(status: &Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    page_at(status, now.map_or(0, |now| now.as_secs()))
}

fn page_at(status: &Value, now: u64) -> String {
    let sections = [
        head(status),
        section("Channels", channels(status, now)),
        section("Swarm", swarm(status)),
        section("Given to Nix since the start", given(status)),
        section("Per day and channel", accounting(status)),
        section("Downloads", downloads(status)),
        section("Upstreams", upstreams(status)),
        section("Look at this", problems(status)),
    ];
    let sections: Vec<String> = sections
        .into_iter()
        .filter(|text| !text.is_empty())
        .collect();
    sections.join("\n")
}

fn section(title: &str, lines: Vec<String>) -> String {
    match lines.is_empty() {
        true => String::new(),
        false => format!("{title}\n  {}\n", lines.join("\n  ")),
    }
}

fn head(status: &Value) -> String {
    let (addresses, config) = (&status["addresses"], &status["config"]);
    let chosen = match config["share_chosen"].is_null() {
        true => String::new(),
        false => format!(
            " (by `narswarm share`; configured is {})",
            text(&config["share"])
        ),
    };
    let asks = match status["role"] == "agent" {
        true => "Nix asks",
        false => "status is at",
    };
    format!(
        "narswarm {} {}, up {}, share = {}{chosen}\n  {asks} {}, peers reach {}\n",
        text(&status["role"]),
        text(&status["version"]),
        span(number(&status["uptime_s"])),
        text(&status["share"]),
        text(&addresses["shim"]),
        text(&addresses["peer"]),
    )
}

fn channels(status: &Value, now: u64) -> Vec<String> {
    let channels = list(&status["channels"]);
    let width = widest(channels, "name");
    let line = |channel: &Value| {
        let freshness = match channel["state"].as_str() {
            Some("ok") | Some("stale") => {
                let (created, expires) = (number(&channel["created"]), number(&channel["expires"]));
                let fresh = match expires.checked_sub(now) {
                    Some(left) => format!("fresh for {}", span(left)),
                    None => format!("expired {} ago, still used", span(now - expires)),
                };
                format!(
                    "{} of {} ago, {fresh}, {} paths",
                    text(&channel["release"]),
                    span(now.saturating_sub(created)),
                    channel["paths"]
                )
            }
            _ => "no manifest yet".to_owned(),
        };
        let error = channel["last_error"].as_str();
        let error = error
            .map(|error| format!("\n    {error}"))
            .unwrap_or_default();
        let (name, state) = (text(&channel["name"]), text(&channel["state"]));
        format!("{name:width$}  {state:5}  {freshness}{error}")
    };
    channels.iter().map(line).collect()
}

fn swarm(status: &Value) -> Vec<String> {
    let (offer, swarm, bytes) = (&status["offer"], &status["swarm"], &status["bytes"]);
    let withdrawn = match number(&offer["withdrawn"]) {
        0 => String::new(),
        withdrawn => format!(", {withdrawn} withdrawn because their content differs"),
    };
    let vain = match number(&bytes["wasted"]) {
        0 => String::new(),
        wasted => format!(", {} fetched in vain", Size(wasted)),
    };
    let nat = swarm["nat"].as_str();
    let nat = nat.map(|reason| format!("          {reason}"));
    let peers = format!(
        "peers     {} known, {} answered, {} neighbours",
        swarm["peers"], swarm["reachable"], swarm["neighbours"]
    );
    let others = vec![
        format!(
            "offered   {} paths, {}{withdrawn}",
            offer["paths"],
            size(&offer["bytes"])
        ),
        format!(
            "uploaded  {} since the start, {} peers connected now{vain}",
            size(&bytes["uploaded"]),
            swarm["uploading_to"]
        ),
    ];
    [peers].into_iter().chain(nat).chain(others).collect()
}

fn given(status: &Value) -> Vec<String> {
    let bytes = &status["bytes"];
    let sources = ["swarm", "store", "upstream"].map(|source| (source, number(&bytes[source])));
    let total: u64 = sources.iter().map(|(_, bytes)| bytes).sum();
    if total == 0 {
        return vec![];
    }
    let share = |part: u64| format!("{:3} %", part as u128 * 100 / total as u128);
    let line = |(source, bytes): (&str, u64)| {
        format!(
            "from {source:8}  {:>8}  {}",
            Size(bytes).to_string(),
            share(bytes)
        )
    };
    let saved = total - number(&bytes["upstream"]);
    let mut lines: Vec<String> = sources.into_iter().map(line).collect();
    lines.push(format!("no upstream was asked for {} of it", Size(saved)));
    lines
}

fn accounting(status: &Value) -> Vec<String> {
    let accounts = list(&status["accounting"]);
    let size = |account: &Value, key: &str| Size(number(&account[key])).to_string();
    let lines = accounts.iter().take(ACCOUNTS).map(|account| {
        let channel = match text(&account["channel"]) {
            "" => "no channel",
            channel => channel,
        };
        format!(
            "{}  {channel}: {} from the store, {} from the swarm, {} from upstreams; {} given",
            text(&account["day"]),
            size(account, "store"),
            size(account, "swarm"),
            size(account, "upstream"),
            size(account, "uploaded"),
        )
    });
    lines.collect()
}

fn downloads(status: &Value) -> Vec<String> {
    let line = |download: &Value| {
        let (done, all) = (number(&download["done"]), number(&download["size"]));
        let full = (done as u128 * BAR as u128 / all.max(1) as u128) as usize;
        format!(
            "[{:20}] {:>8} of {:>8} from the {:8}  {}",
            "#".repeat(full.min(BAR as usize)),
            Size(done).to_string(),
            Size(all).to_string(),
            text(&download["source"]),
            text(&download["store_path"])
        )
    };
    list(&status["downloads"]).iter().map(line).collect()
}

fn upstreams(status: &Value) -> Vec<String> {
    let upstreams = list(&status["upstreams"]);
    let width = widest(upstreams, "url");
    let line = |upstream: &Value| {
        let (url, state) = (text(&upstream["url"]), text(&upstream["state"]));
        let error = upstream["last_error"].as_str().filter(|_| state != "ok");
        let error = error.map(|error| format!("  {error}")).unwrap_or_default();
        format!("{url:width$}  {state}{error}")
    };
    upstreams.iter().map(line).collect()
}

fn problems(status: &Value) -> Vec<String> {
    let config = &status["config"];
    let mut problems = Vec::new();
    if let Some(error) = config["error"].as_str() {
        problems.push(format!(
            "the configuration is refused, the one before stays: {error}"
        ));
    }
    let waiting: Vec<&str> = list(&config["needs_restart"]).iter().map(text).collect();
    if !waiting.is_empty() {
        problems.push(format!(
            "restart narswarm for the new {}",
            waiting.join(", ")
        ));
    }
    let warnings = list(&config["warnings"]).iter();
    problems.extend(warnings.map(|warning| format!("configuration: {}", text(warning))));
    if let Some(reason) = status["encoder"]["off"].as_str() {
        problems.push(format!("installed paths are not seeded: {reason}"));
    }
    // Of the last hour.
    let refused = list(&status["refused"]);
    if !refused.is_empty() {
        let shown: Vec<&str> = refused.iter().rev().take(3).map(text).collect();
        let more = match refused.len() > shown.len() {
            true => ", ...",
            false => "",
        };
        problems.push(format!(
            "404 only because nobody could give it, so Nix builds: {}{more} ({} since the start)",
            shown.join(", "),
            status["refused_404"]
        ));
    }
    problems.extend(
        list(&status["errors"])
            .iter()
            .map(|error| text(error).to_owned()),
    );
    problems
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("-")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn size(value: &Value) -> Size {
    Size(number(value))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn widest(list: &[Value], key: &str) -> usize {
    let widths = list.iter().map(|value| text(&value[key]).len());
    widths.max().unwrap_or(0)
}

/// Seconds in the two units that tell most.
pub fn span(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sample() -> Value {
        json!({
            "role": "agent", "version": "0.1.0", "uptime_s": 11520, "share": "off",
            "config": { "error": null, "needs_restart": ["swarm.listen"], "warnings": ["no such netrc"], "share": "public", "share_chosen": "off" },
            "addresses": { "shim": "127.0.0.1:8642", "peer": "[::]:6881" },
            "channels": [
                { "name": "stable", "state": "ok", "release": "26.05.1", "created": 900_000, "expires": 1_100_000, "paths": 98233 },
                { "name": "old", "state": "stale", "release": "25.11", "created": 0, "expires": 990_000, "paths": 7,
                  "last_error": "it does not answer" },
                { "name": "new", "state": "none" },
            ],
            "swarm": { "peers": 12, "reachable": 8, "uploading_to": 3, "neighbours": 5 },
            "offer": { "paths": 2034, "bytes": 8_300_000_000u64, "withdrawn": 0 },
            "bytes": { "swarm": 800, "store": 100, "upstream": 100, "uploaded": 3_200_000_000u64, "wasted": 0 },
            "downloads": [{ "store_path": "05xf-hello", "done": 10, "size": 20, "source": "swarm" }],
            "upstreams": [{ "url": "https://cache.nixos.org/", "state": "down", "last_error": "no route" }],
            "refused_404": 1, "refused": ["05xf"], "errors": ["the disk is full"],
        })
    }

    #[test]
    fn a_page() {
        let expected = "\
narswarm agent 0.1.0, up 3 h 12 min, share = off (by `narswarm share`; configured is public)
  Nix asks 127.0.0.1:8642, peers reach [::]:6881

Channels
  stable  ok     26.05.1 of 1 d 3 h ago, fresh for 1 d 3 h, 98233 paths
  old     stale  25.11 of 11 d 13 h ago, expired 2 h 46 min ago, still used, 7 paths
    it does not answer
  new     none   no manifest yet

Swarm
  peers     12 known, 8 answered, 5 neighbours
  offered   2034 paths, 8.30 GB
  uploaded  3.20 GB since the start, 3 peers connected now

Given to Nix since the start
  from swarm        800 B   80 %
  from store        100 B   10 %
  from upstream     100 B   10 %
  no upstream was asked for 900 B of it

Downloads
  [##########          ]     10 B of     20 B from the swarm     05xf-hello

Upstreams
  https://cache.nixos.org/  down  no route

Look at this
  restart narswarm for the new swarm.listen
  configuration: no such netrc
  404 only because nobody could give it, so Nix builds: 05xf (1 since the start)
  the disk is full
";
        assert_eq!(page_at(&sample(), 1_000_000), expected);
    }

    #[test]
    fn an_answer_without_anything_is_a_page_too() {
        assert!(page(&json!({})).starts_with("narswarm - -, up 0 s"));
    }
}
