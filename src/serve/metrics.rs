//! `/metrics`: the figures of `status` in OpenMetrics text (openmetrics.io, version 1.0.0) for those who ask for it, and
//! in Prometheus' older text for everybody else.

use std::fmt::Write;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};

use super::router::Shim;
use super::status::Status;

const OPEN_METRICS: &str = "application/openmetrics-text";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    OpenMetrics,
    Text,
}

impl Format {
    fn of(headers: &HeaderMap) -> Self {
        let accepts = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok());
        match accepts.is_some_and(|accepts| accepts.contains(OPEN_METRICS)) {
            true => Self::OpenMetrics,
            false => Self::Text,
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

pub async fn get(State(shim): State<Shim>, headers: HeaderMap) -> Response {
    let format = Format::of(&headers);
    let report = shim.status.clone();
    let status = tokio::task::spawn_blocking(move || report.read())
        .await
        .unwrap_or_default();
    let content_type = [(header::CONTENT_TYPE, format.content_type())];
    (content_type, text(&status, format)).into_response()
}

fn text(status: &Status, format: Format) -> String {
    let mut page = Page {
        format,
        text: String::new(),
    };
    let bytes = &status.bytes;
    let sources = [
        ("store", bytes.store),
        ("swarm", bytes.swarm),
        ("upstream", bytes.upstream),
    ];
    page.family(
        "narswarm_served_bytes",
        "counter",
        "NAR bytes given to Nix, by source.",
        &sources.map(|(source, value)| (format!("{{source=\"{source}\"}}"), value)),
    );
    let one = |value: u64| [(String::new(), value)];
    page.family(
        "narswarm_uploaded_bytes",
        "counter",
        "Payload bytes given to peers.",
        &one(bytes.uploaded),
    );
    page.family(
        "narswarm_wasted_bytes",
        "counter",
        "Bytes fetched in vain.",
        &one(bytes.wasted),
    );
    let refused =
        "Narinfos and NARs answered 404 because an upstream was down or nobody could give them.";
    page.family(
        "narswarm_refused",
        "counter",
        refused,
        &one(status.refused_404),
    );
    page.family(
        "narswarm_offered_paths",
        "gauge",
        "Store paths offered to peers.",
        &one(status.offer.paths),
    );
    page.family(
        "narswarm_offered_bytes",
        "gauge",
        "Payload bytes offered to peers.",
        &one(status.offer.bytes),
    );
    page.family(
        "narswarm_withdrawn_paths",
        "gauge",
        "Offers withdrawn because the content differed.",
        &one(status.offer.withdrawn),
    );
    page.family(
        "narswarm_peers",
        "gauge",
        "Peers known.",
        &one(status.swarm.peers as u64),
    );
    page.family(
        "narswarm_uploads",
        "gauge",
        "Connections to the peer port that are open now.",
        &one(status.swarm.uploading_to as u64),
    );
    let channels: Vec<(String, u64)> = status
        .channels
        .iter()
        .map(|channel| (label("channel", &channel.name), channel.sequence))
        .collect();
    page.family(
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
    page.family(
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
    page.family(
        "narswarm_upstream_up",
        "gauge",
        "0 when an upstream is not asked because it was down.",
        &up,
    );
    page.family(
        "narswarm_config_refused",
        "gauge",
        "1 when the configuration file is refused and the one before is in force.",
        &one(u64::from(status.config.error.is_some())),
    );
    if format == Format::OpenMetrics {
        page.text.push_str("# EOF\n");
    }
    page.text
}

struct Page {
    format: Format,
    text: String,
}

impl Page {
    /// One metric family. A counter's samples end in `_total`; in the older text so does its family.
    fn family(&mut self, name: &str, kind: &str, help: &str, samples: &[(String, u64)]) {
        let suffix = if kind == "counter" { "_total" } else { "" };
        let family = match self.format {
            Format::OpenMetrics => name.to_owned(),
            Format::Text => format!("{name}{suffix}"),
        };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "# TYPE {family} {kind}\n# HELP {family} {help}");
        for (labels, value) in samples {
            let _ = writeln!(self.text, "{name}{suffix}{labels} {value}");
        }
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
        let open = text(&Status::default(), Format::OpenMetrics);
        assert!(open.ends_with("# EOF\n"));
        assert!(open.contains("# TYPE narswarm_served_bytes counter\n"));
        let old = text(&Status::default(), Format::Text);
        assert!(old.contains("# TYPE narswarm_served_bytes_total counter\n"));
        for text in [open, old] {
            assert!(text.contains("narswarm_served_bytes_total{source=\"swarm\"} 0\n"));
        }
        assert_eq!(label("a", "x\"y\\z\n"), "{a=\"x\\\"y\\\\z\\n\"}");
    }
}
