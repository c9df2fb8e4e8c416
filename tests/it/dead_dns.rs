//! With nobody who resolves a name everything goes on, and what only a name leads to is refused soon.

use std::time::Duration;

use crate::lab::{Channel, Hosts, Need, Node, NodeConfig, Scratch};

/// A path that nobody has.
const NOWHERE: &str = "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";
/// 5 s is the promise; the rest is for a busy machine.
const FIRST: Duration = Duration::from_secs(9);
const AT_ONCE: Duration = Duration::from_secs(1);

/// Origin, second and third machine on hosts 1 to 3; even the manifest comes through the swarm.
#[test]
fn three_machines_without_dns() {
    let Some(channel) = Channel::small("three_machines_without_dns", &[Need::Namespaces]) else {
        return;
    };
    let (publication, paths) = (&channel.publication, channel.closure.paths.len());
    let hosts = Hosts::new(3);
    let resolves = hosts
        .place(1)
        .command("getent")
        .args(["-s", "hosts:files", "ahosts", "cache.nixos.org"])
        .output();
    assert!(!resolves.unwrap().status.success(), "a name resolves here");
    let origin = channel.seedbox("origin").listen(hosts.address(1));
    let origin = Node::start_in(&hosts.place(1), &origin);
    origin.wait_for_offer(paths);

    let fetch = |k: u8, from: &Node| {
        let agent = channel
            .stranger(&format!("machine-{k}"))
            .listen(hosts.address(k))
            .peer(from.peer)
            .follow_at(publication, publication.text("magnet"))
            .upstream("http://cache.example.invalid", &publication.keys.narinfo);
        let agent = Node::start_in(&hosts.place(k), &agent);
        agent.wait_for_channel();
        channel.fetch_from_swarm(&agent);
        agent.wait_for_offer(paths);
        agent
    };
    let second = fetch(2, &origin);
    origin.stop();
    let third = fetch(3, &second);
    assert_eq!(third.status()["refused_404"], 0);
}

#[test]
fn an_upstream_that_cannot_be_resolved_costs_five_seconds_once() {
    let test = "an_upstream_that_cannot_be_resolved_costs_five_seconds_once";
    if !Need::all(test, &[Need::Namespaces]) {
        return;
    }
    resolves_nothing(&Hosts::new(1));
}

/// Somebody has the resolver's address, and what comes to port 53 disappears without a word.
#[test]
fn a_resolver_that_swallows_questions_costs_five_seconds_once() {
    let test = "a_resolver_that_swallows_questions_costs_five_seconds_once";
    if !Need::all(test, &[Need::Namespaces, Need::Program("nft")]) {
        return;
    }
    let hosts = Hosts::new(2);
    hosts.run(2, "ip", &["addr", "add", "10.77.0.250/24", "dev", "eth0"]);
    hosts.swallow(2, "udp dport 53");
    hosts.swallow(2, "tcp dport 53");
    resolves_nothing(&hosts);
}

/// An agent on host 1 with an upstream that only a name leads to.
fn resolves_nothing(hosts: &Hosts) {
    let scratch = Scratch::new();
    let key = "lab-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let agent = agent.upstream("http://cache.example.invalid", key);
    let agent = Node::start_in(&hosts.place(1), &agent);

    let first = agent.get(NOWHERE);
    assert_eq!(first.status, 404);
    assert!(first.elapsed < FIRST, "{:?}", first.elapsed);
    let second = agent.get(NOWHERE);
    assert_eq!(second.status, 404);
    assert!(second.elapsed < AT_ONCE, "{:?}", second.elapsed);
    // The other routes do not wait either.
    for path in [
        "/log/x.drv",
        "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.ls",
        "/realisations/x",
        "/debuginfo/x",
    ] {
        let response = agent.get(path);
        assert_eq!(response.status, 404, "{path}");
        assert!(response.elapsed < AT_ONCE, "{path}: {:?}", response.elapsed);
    }
    let status = agent.status();
    assert_eq!(status["refused_404"], 2);
    assert_eq!(status["upstreams"][0]["state"], "down");
    let error = status["upstreams"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("cache.example.invalid"), "{error}");
}
