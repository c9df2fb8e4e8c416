//! Agents of a channel find each other, and its newest release, without a server or a name: by the DHT, or by multicast.

use std::net::SocketAddr;

use crate::lab::{
    Channel, Closure, Hosts, Keys, Need, Nix, Node, NodeConfig, Outcome, PROGRAM, Release, Scratch,
};

const PORT: u16 = 6881;

fn address(hosts: &Hosts, k: u8) -> SocketAddr {
    SocketAddr::new(hosts.address(k), PORT)
}

/// The first release has one path, the second the whole closure.
fn releases(nix: &Nix, scratch: &Scratch) -> (Release, Release) {
    let closure = Closure::small();
    let keys = Keys::make(nix, &scratch.path("keys"));
    let second = Release {
        name: "r2".to_owned(),
        ..Release::of(closure, &keys, scratch.path("channel"))
    };
    let first = Release {
        name: "r1".to_owned(),
        paths: vec![closure.inner().store_path.clone()],
        ..second.clone()
    };
    (first, second)
}

/// The pointer is in the DHT, and so are the addresses: the link alone is enough. One of the bootstrap nodes is dead.
#[test]
fn the_dht_leads_from_a_link_to_the_release_and_to_the_next_one() {
    let name = "the_dht_leads_from_a_link_to_the_release_and_to_the_next_one";
    if !Need::all(name, &[Need::NIX, Need::Namespaces]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let hosts = Hosts::new(4);
    let bootstrap = [address(&hosts, 1), address(&hosts, 3), address(&hosts, 9)];
    let (first, second) = releases(&nix, &scratch);
    let publication = first.publish();
    let link = publication.text("link").to_owned();
    assert!(!link.contains("x.pe"), "{link}");

    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root)
        .follow(&publication)
        .listen(hosts.address(1))
        .port(PORT)
        .dht(&bootstrap);
    let seedbox = Node::start_in(&hosts.place(1), &seedbox);
    // Two that follow the same channel: a network of one's own needs more than one node.
    let agent = |k: u8| {
        let name = format!("agent-{k}");
        NodeConfig::agent(scratch.path(&name), &scratch.path("store"))
            .link(&link)
            .trust(&publication.keys.narinfo)
            .listen(hosts.address(k))
            .port(PORT)
            .dht(&bootstrap)
    };
    let agents: Vec<Node> = (2..=3)
        .map(|k| Node::start_in(&hosts.place(k), &agent(k)))
        .collect();
    for agent in &agents {
        let status = agent.wait_for_channel();
        assert_eq!(status["channels"][0]["sequence"], 1, "{status}");
        assert!(status["swarm"]["dht_nodes"].as_u64().unwrap() > 0);
    }
    let inner = agents[0].get(&closure.inner().nar());
    assert_eq!(inner.body.len() as u64, closure.inner().nar_size);

    // The DHT is told of the next release at once.
    second.publish();
    seedbox.wait("second release", |status| {
        status["channels"][0]["sequence"] == 2
    });
    let late = Node::start_in(&hosts.place(4), &agent(4));
    late.wait("second release", |status| {
        status["channels"][0]["sequence"] == 2
    });

    // Nodes are kept: a restart with nothing but dead bootstrap nodes finds back.
    let state = late.state().to_owned();
    late.wait("DHT nodes on disk", |_| state.join("dht").exists());
    late.stop();
    std::fs::remove_dir_all(state.join("channels")).unwrap();
    std::fs::remove_dir_all(state.join("pointers")).unwrap();
    let restarted = Node::start_in(&hosts.place(4), &agent(4).dht(&[address(&hosts, 9)]));
    restarted.wait("second release", |status| {
        status["channels"][0]["sequence"] == 2
    });
}

/// `publish --announce` needs no running agent of its own.
#[test]
fn publish_puts_the_pointer_into_the_dht() {
    let name = "publish_puts_the_pointer_into_the_dht";
    if !Need::all(name, &[Need::NIX, Need::Namespaces]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let hosts = Hosts::new(3);
    let (first, _) = releases(&nix, &scratch);
    let keys = first.keys.clone();
    let link = first.publish().text("link").to_owned();
    let nodes: Vec<Node> = (1..=2)
        .map(|k| {
            let name = format!("node-{k}");
            let node = NodeConfig::agent(scratch.path(&name), &scratch.path("store"))
                .link(&link)
                .trust(&keys.narinfo)
                .listen(hosts.address(k))
                .port(PORT)
                .dht(&[address(&hosts, 1), address(&hosts, 2)]);
            Node::start_in(&hosts.place(k), &node)
        })
        .collect();
    for node in &nodes {
        node.wait("DHT node", |status| status["swarm"]["dht_nodes"] == 1);
    }
    let mut publish = hosts.place(3).command(PROGRAM);
    let command = first.command();
    publish.args(command.get_args());
    publish.args(["--announce", "--bootstrap", &address(&hosts, 1).to_string()]);
    let summary = Outcome::of(publish).success().json();
    assert_eq!(summary["dht_nodes"], 2, "{summary}");
    // They know of it now, and say that nobody there has the manifest.
    for node in &nodes {
        let state = node.state().join("pointers");
        node.wait("pointer on disk", |_| {
            std::fs::read_dir(&state).unwrap().count() == 1
        });
        let error = "downloading from the swarm";
        node.wait(error, |status| {
            let said = status["channels"][0]["last_error"].as_str();
            said.is_some_and(|said| said.contains(error))
        });
    }
}

/// Nobody is configured, no tracker, no DHT, no address in the link: the bridge is enough.
#[test]
fn multicast_is_enough_on_a_lan() {
    let needs = [Need::Namespaces];
    let Some(channel) = Channel::small("multicast_is_enough_on_a_lan", &needs) else {
        return;
    };
    let hosts = Hosts::new(2);
    let seedbox = channel.seedbox("seedbox").listen(hosts.address(1)).lsd();
    let _seedbox = Node::start_in(&hosts.place(1), &seedbox);
    let agent = channel.linked("agent").listen(hosts.address(2)).lsd();
    let agent = Node::start_in(&hosts.place(2), &agent);
    let status = agent.wait_for_channel();
    assert_eq!(status["swarm"]["lsd"], true, "{status}");
    let path = channel.closure.inner();
    assert_eq!(agent.get(&path.nar()).body.len() as u64, path.nar_size);
}
