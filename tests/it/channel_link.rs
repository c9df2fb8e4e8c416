//! A machine that knows nothing but a channel link with one address gets every release, whoever is still alive.

use std::net::SocketAddr;

use crate::lab::{
    Closure, Hosts, Keys, Need, Nix, Node, NodeConfig, Release, Scratch, Substitution,
};

const PORT: u16 = 6881;

/// No name resolves, no route leads out. First the publisher's box, later only other agents.
#[test]
fn one_address_is_enough_and_the_publisher_may_die() {
    let name = "one_address_is_enough_and_the_publisher_may_die";
    if !Need::all(name, &[Need::NIX, Need::Namespaces]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let hosts = Hosts::new(4);
    let address = |k: u8| SocketAddr::new(hosts.address(k), PORT);
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let second = Release {
        name: "r2".to_owned(),
        // It has expired before the last agent sees it, as with a clock that is years ahead.
        more: vec!["--lifetime=1s".to_owned()],
        ..Release::of(closure, &keys, scratch.path("channel"))
    };
    let first = Release {
        name: "r1".to_owned(),
        paths: vec![closure.inner().store_path.clone()],
        more: vec![format!("--seedbox={}", address(1))],
        ..second.clone()
    };
    let publication = first.publish();
    let link = publication.text("link");
    assert!(link.ends_with(&format!("&x.pe={}", address(1))), "{link}");

    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root)
        .follow(&publication)
        .listen(hosts.address(1))
        .port(PORT);
    let seedbox = Node::start_in(&hosts.place(1), &seedbox);
    let store = |k: u8| scratch.path(&format!("store-{k}"));
    let agent = |k: u8, link: &str| {
        let state = scratch.path(&format!("agent-{k}"));
        let config = NodeConfig::agent(state, &store(k))
            .link(link)
            .trust(&keys.narinfo)
            .listen(hosts.address(k))
            .port(PORT);
        Node::start_in(&hosts.place(k), &config)
    };
    let fetch = |k: u8, node: &Node| {
        let substitution = Substitution {
            nix: &nix,
            place: &hosts.place(k),
            shim: node.shim,
            key: &keys.narinfo,
            to: &store(k),
        };
        substitution.fetch(closure);
    };
    let agents: Vec<Node> = (2..=3).map(|k| agent(k, link)).collect();
    // Nix would remember a 404: whoever asks before the first release is there waits for it.
    let asked = agents[0].get(&closure.inner().narinfo());
    assert_eq!(asked.status, 200);
    for agent in &agents {
        let status = agent.wait_for_channel();
        assert_eq!(status["channels"][0]["release"], "r1", "{status}");
    }

    // A later release reaches all without a restart.
    second.publish();
    for agent in &agents {
        agent.wait("second release", |status| {
            status["channels"][0]["sequence"] == 2
        });
    }
    fetch(2, &agents[0]);
    agents[0].wait_for_offer(closure.paths.len());

    // The publisher is gone, and its release has expired: that is said, and takes nothing away.
    seedbox.kill();
    let link = link.replace(&address(1).to_string(), &address(3).to_string());
    let late = agent(4, &link);
    let status = late.wait("second release", |status| {
        status["channels"][0]["sequence"] == 2
    });
    assert_eq!(status["channels"][0]["state"], "stale", "{status}");
    fetch(4, &late);
    assert_eq!(late.bytes("swarm"), closure.nar_bytes());
}
