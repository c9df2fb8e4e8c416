//! `/metrics`: the figures of `status` in OpenMetrics text (openmetrics.io, version 1.0.0).

use std::fmt::Write;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::router::Shim;
use super::status::Status;

const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

pub async fn get(State(shim): State<Shim>) -> Response {
    let report = shim.status.clone();
    let status = tokio::task::spawn_blocking(move || report.read())
        .await
        .unwrap_or_default();
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], text(&status)).into_response()
}

fn text(status: &Status) -> String {
    let mut text = String::new();
    let bytes = &status.bytes;
    let sources = [
        ("store", bytes.store),
        ("swarm", bytes.swarm),
        ("upstream", bytes.upstream),
    ];
    family(
        &mut text,
        "narswarm_served_bytes",
        "counter",
        "NAR bytes given to Nix, by source.",
        &sources.map(|(source, value)| (format!("{{source=\"{source}\"}}"), value)),
    );
    let one = |value: u64| [(String::new(), value)];
    family(
        &mut text,
        "narswarm_uploaded_bytes",
        "counter",
        "Payload bytes given to peers.",
        &one(bytes.uploaded),
    );
    family(
        &mut text,
        "narswarm_wasted_bytes",
        "counter",
        "Bytes fetched in vain.",
        &one(bytes.wasted),
    );
    let refused = "Narinfos answered 404 because an upstream was down.";
    family(
        &mut text,
        "narswarm_refused",
        "counter",
        refused,
        &one(status.refused_404),
    );
    family(
        &mut text,
        "narswarm_offered_paths",
        "gauge",
        "Store paths offered to peers.",
        &one(status.offer.paths),
    );
    family(
        &mut text,
        "narswarm_offered_bytes",
        "gauge",
        "Payload bytes offered to peers.",
        &one(status.offer.bytes),
    );
    family(
        &mut text,
        "narswarm_withdrawn_paths",
        "gauge",
        "Offers withdrawn because the content differed.",
        &one(status.offer.withdrawn),
    );
    family(
        &mut text,
        "narswarm_peers",
        "gauge",
        "Peers known.",
        &one(status.swarm.peers as u64),
    );
    family(
        &mut text,
        "narswarm_uploads",
        "gauge",
        "Peers that download from here now.",
        &one(status.swarm.uploading_to as u64),
    );
    let channels: Vec<(String, u64)> = status
        .channels
        .iter()
        .map(|channel| (label("channel", &channel.name), channel.sequence))
        .collect();
    family(
        &mut text,
        "narswarm_channel_sequence",
        "gauge",
        "Sequence of the newest manifest.",
        &channels,
    );
    let stale: Vec<(String, u64)> = status
        .channels
        .iter()
        .map(|channel| {
            (
                label("channel", &channel.name),
                u64::from(channel.state != "ok"),
            )
        })
        .collect();
    family(
        &mut text,
        "narswarm_channel_stale",
        "gauge",
        "1 when the manifest is expired or missing.",
        &stale,
    );
    let up: Vec<(String, u64)> = status
        .upstreams
        .iter()
        .map(|upstream| {
            (
                label("url", &upstream.url),
                u64::from(upstream.state == "ok"),
            )
        })
        .collect();
    family(
        &mut text,
        "narswarm_upstream_up",
        "gauge",
        "0 when an upstream is not asked because it was down.",
        &up,
    );
    text.push_str("# EOF\n");
    text
}

/// One metric family; a counter's samples end in `_total`.
fn family(text: &mut String, name: &str, kind: &str, help: &str, samples: &[(String, u64)]) {
    let suffix = if kind == "counter" { "_total" } else { "" };
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# TYPE {name} {kind}\n# HELP {name} {help}");
    for (labels, value) in samples {
        let _ = writeln!(text, "{name}{suffix}{labels} {value}");
    }
}

fn label(name: &str, value: &str) -> String {
    let value = value
        .replace('\\', "\\\\")
        .replace('"', "\\\"")
        .replace('\n', "\\n");
    format!("{{{name}=\"{value}\"}}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_has_a_type_and_the_text_ends() {
        let text = text(&Status::default());
        assert!(text.ends_with("# EOF\n"));
        assert!(text.contains("# TYPE narswarm_served_bytes counter\n"));
        assert!(text.contains("narswarm_served_bytes_total{source=\"swarm\"} 0\n"));
        assert_eq!(label("a", "x\"y\\z\n"), "{a=\"x\\\"y\\\\z\\n\"}");
    }
}
