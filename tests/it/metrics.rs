//! Prometheus reads `/metrics`, in its older text and in OpenMetrics.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use crate::lab::{HttpServer, Need, Node, NodeConfig, Scratch, request};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0";

fn node(scratch: &Scratch) -> (Node, HttpServer) {
    let upstream = HttpServer::directory(&scratch.directory("upstream"));
    let config = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let key = "lab-1:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
    let config = config.upstream(&upstream.url(), key);
    (
        Node::start(&config.channel("lab", key, "/nonexistent")),
        upstream,
    )
}

#[test]
fn both_formats_are_served() {
    let scratch = Scratch::new();
    let (node, _upstream) = node(&scratch);
    let old = node.get("/metrics");
    assert_eq!(
        old.header("content-type"),
        Some("text/plain; version=0.0.4; charset=utf-8")
    );
    let open = request(node.shim, "GET", "/metrics", &[("Accept", OPEN_METRICS)]);
    assert!(
        open.header("content-type")
            .unwrap()
            .starts_with(OPEN_METRICS)
    );
    assert!(open.text().ends_with("# EOF\n"));
    for text in [old.text(), open.text()] {
        assert!(
            text.contains("\nnarswarm_channel_stale{channel=\"lab\"} 1\n"),
            "{text}"
        );
    }
}

#[test]
fn promtool_has_nothing_to_say() {
    // 19 MB of Go programs: nobody can insist on it.
    if Command::new("promtool").arg("--version").output().is_err() {
        Need::optional("promtool_has_nothing_to_say", "promtool is not installed");
        return;
    }
    let scratch = Scratch::new();
    let (node, _upstream) = node(&scratch);
    let mut promtool = Command::new("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped());
    promtool.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    let text = node.get("/metrics");
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(&text.body)
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(
        output.status.success() && said.is_empty(),
        "{said}\n{}",
        text.text()
    );
}
