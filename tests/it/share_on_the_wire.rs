//! `share = "lan"`, looked at from the wire: machines of one network serve each other, and nobody beyond it.

use crate::lab::{
    Closure, Hosts, Need, Nix, Node, NodeConfig, Publication, Scratch, Substitution, Way,
};

const NEEDS: [Need; 3] = [Need::NIX, Need::Namespaces, Need::Program("nft")];
/// Headers of IP and TCP with all options that Linux sets: what is longer carries something.
const HEADERS: &str = "80";

/// Counts, on host `k`, the packets with content that leave it for another network.
fn count(hosts: &Hosts, k: u8) {
    let nft = |arguments: &[&str]| hosts.run(k, "nft", arguments);
    nft(&["add", "table", "ip", "wire"]);
    nft(&["add", "counter", "ip", "wire", "beyond"]);
    nft(&["add", "counter", "ip", "wire", "near"]);
    let hook = "{ type filter hook output priority 0 ; }";
    nft(&["add", "chain", "ip", "wire", "out", hook]);
    let rule = ["add", "rule", "ip", "wire", "out", "ip", "daddr"];
    let long = ["ip", "length", ">", HEADERS, "counter", "name"];
    nft(&[&rule[..], &["10.88.0.0/16"], &long, &["beyond"]].concat());
    nft(&[&rule[..], &["10.77.0.0/24"], &long, &["near"]].concat());
}

fn packets(hosts: &Hosts, k: u8, counter: &str) -> u64 {
    let said = hosts.run(k, "nft", &["list", "counter", "ip", "wire", counter]);
    let mut words = said
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    words.nth(1).unwrap().parse().unwrap()
}

#[test]
fn a_lan_serves_itself_and_nobody_beyond() {
    if !Need::all("a_lan_serves_itself_and_nobody_beyond", &NEEDS) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let mut hosts = Hosts::new(3);
    let beyond = hosts.behind(3, Way::Routed);
    [1, 2].iter().for_each(|k| count(&hosts, *k));

    // `share = "lan"` is the default; they know of each other by multicast alone.
    let origin = NodeConfig::store_seedbox(scratch.path("origin"), &closure.root)
        .follow(&publication)
        .listen(hosts.address(1))
        .lsd();
    let origin = Node::start_in(&hosts.place(1), &origin);
    origin.wait_for_offer(closure.paths.len());
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .listen(hosts.address(2))
        .lsd();
    let agent = Node::start_in(&hosts.place(2), &agent);
    // It tries both of them all the time, and could be reached.
    let stranger = NodeConfig::agent(scratch.path("stranger"), &scratch.path("far-store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .share("public")
        .listen(hosts.address_behind(3))
        .peer(origin.peer)
        .peer(agent.peer);
    let stranger = Node::start_in(&beyond, &stranger);

    agent.wait_for_channel();
    agent.wait("neighbour", |s| s["swarm"]["neighbours"] == 1);
    let substitution = Substitution {
        nix: &nix,
        place: &hosts.place(2),
        shim: agent.shim,
        key: &publication.keys.narinfo,
        to: &scratch.path("store"),
    };
    substitution.fetch(closure);
    assert_eq!(agent.bytes("swarm"), closure.nar_bytes());
    assert_eq!(stranger.get(&closure.top().narinfo()).status, 200);
    assert_eq!(stranger.get(&closure.top().nar()).status, 404);
    assert_eq!(stranger.status()["swarm"]["neighbours"], 0);
    for k in [1, 2] {
        assert!(packets(&hosts, k, "near") > 0);
        assert_eq!(packets(&hosts, k, "beyond"), 0);
    }
}
