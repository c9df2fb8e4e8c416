//! The ready line and `run.json`: how others find a node, and that nobody finds one that is gone.

use std::{fs, os::unix::fs::PermissionsExt};

use serde_json::Value;

use crate::lab::{Node, NodeConfig, Scratch, get, narswarm};

const KEYS: [&str; 21] = [
    "schema",
    "role",
    "version",
    "uptime_s",
    "encoder",
    "ready",
    "addresses",
    "share",
    "channels",
    "offer",
    "swarm",
    "bytes",
    "downloads",
    "upstreams",
    "refused_404",
    "hold",
    "errors",
    "/addresses/shim",
    "/addresses/peer",
    "/bytes/wasted",
    "/offer/withdrawn",
];

fn configs(scratch: &Scratch) -> [NodeConfig; 2] {
    let payloads = scratch.directory("payloads");
    [
        NodeConfig::agent(scratch.path("agent"), &scratch.path("store")),
        NodeConfig::payload_seedbox(scratch.path("seedbox"), &payloads),
    ]
}

#[test]
fn it_says_what_the_ready_line_says() {
    let scratch = Scratch::new();
    for config in configs(&scratch) {
        let node = Node::start(&config);
        let ready = node.ready.clone();
        assert_eq!(
            (&ready["event"], &ready["role"]),
            (&"ready".into(), &config.role.into())
        );
        assert_eq!(ready["pid"], node.id());
        assert!(node.shim.port() != 0 && node.peer.port() != 0 && node.shim != node.peer);
        let file = node.state().join("run.json");
        let kept: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(kept, ready);
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o644
        );

        let status = node.status();
        for key in KEYS {
            let found = if key.starts_with('/') {
                status.pointer(key)
            } else {
                status.get(key)
            };
            assert!(found.is_some(), "no {key} in {status}");
        }
        assert_eq!(
            (&status["role"], &status["ready"]),
            (&config.role.into(), &true.into())
        );
        assert_eq!(status["addresses"]["shim"], ready["shim"]);
        assert_eq!(status["addresses"]["peer"], ready["peer"]);
        let direct: Value = serde_json::from_slice(&get(node.shim, "/status.json").body).unwrap();
        assert_eq!(direct["addresses"], status["addresses"]);
        // The page for people, found through the configuration.
        let page = narswarm(["status", "--config", config.file().to_str().unwrap()]).success();
        assert!(
            page.stdout.contains(ready["shim"].as_str().unwrap()),
            "{}",
            page.stdout
        );

        // One state directory, one node.
        narswarm([config.role, "--config", config.file().to_str().unwrap()])
            .exits(1)
            .says(&["another narswarm"]);
        assert!(
            file.exists(),
            "the second one removed the first one's run.json"
        );
        node.status();

        node.stop();
        assert!(!file.exists());
        let state = config.state.to_str().unwrap();
        narswarm(["status", "--state", state]).exits(5);
    }
}

#[test]
fn a_node_that_was_killed_is_not_reachable_and_starts_again() {
    let scratch = Scratch::new();
    for config in configs(&scratch) {
        Node::start(&config).kill();
        assert!(config.state.join("run.json").exists());
        let state = config.state.to_str().unwrap();
        narswarm(["status", "--json", "--state", state])
            .exits(5)
            .says(&["does not answer"]);
        Node::start(&config).stop();
    }
}

#[test]
fn a_port_that_is_taken_is_named() {
    let scratch = Scratch::new();
    let [config, _] = configs(&scratch);
    let first = Node::start(&config);
    for (port, word) in [
        (first.shim, "[shim] listen"),
        (first.peer, "[swarm] listen"),
    ] {
        let file = scratch.path("taken.toml");
        let text = format!(
            "state = \"{}\"\n{word} = \"{port}\"\n",
            scratch.path("taken").display()
        );
        let text = text.replace("] listen", "]\nlisten");
        let other = if word.contains("shim") {
            "swarm"
        } else {
            "shim"
        };
        fs::write(
            &file,
            format!("{text}[{other}]\nlisten = \"127.0.0.1:0\"\n"),
        )
        .unwrap();
        let outcome = narswarm(["agent", "--config", file.to_str().unwrap()]).exits(1);
        assert!(
            outcome.stderr.contains(&port.to_string()) && outcome.stderr.contains(word),
            "{}",
            outcome.stderr
        );
    }
}
