//! `share = "lan"`, looked at from the wire: machines of one network serve each other, and nobody beyond it.

use std::time::Duration;

use crate::lab::{Channel, Hosts, Need, Node, Way, wait_for};

const NEEDS: [Need; 2] = [Need::Namespaces, Need::Program("nft")];
/// Headers of IP and TCP with all options that Linux sets: what is longer carries something.
const HEADERS: &str = "80";
const PATIENCE: Duration = Duration::from_secs(30);

/// Counts, on host `k`, the packets with content that leave it for another network and for its own; and those of any kind
/// that leave it for the other one, so that it is seen whether anybody there has asked.
fn count(hosts: &Hosts, k: u8) {
    let nft = |arguments: &[&str]| hosts.run(k, "nft", arguments);
    nft(&["add", "table", "ip", "wire"]);
    nft(&["add", "counter", "ip", "wire", "beyond"]);
    nft(&["add", "counter", "ip", "wire", "near"]);
    nft(&["add", "counter", "ip", "wire", "reached"]);
    let hook = "{ type filter hook output priority 0 ; }";
    nft(&["add", "chain", "ip", "wire", "out", hook]);
    let rule = ["add", "rule", "ip", "wire", "out", "ip", "daddr"];
    let long = ["ip", "length", ">", HEADERS, "counter", "name"];
    let any = ["10.88.0.0/16", "counter", "name", "reached"];
    nft(&[&rule[..], &any].concat());
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
    let Some(channel) = Channel::small("a_lan_serves_itself_and_nobody_beyond", &NEEDS) else {
        return;
    };
    let closure = channel.closure;
    let mut hosts = Hosts::new(3);
    let beyond = hosts.behind(3, Way::Routed);
    [1, 2].iter().for_each(|k| count(&hosts, *k));

    // `share = "lan"` is the default; they know of each other by multicast alone.
    let origin = channel.seedbox("origin").listen(hosts.address(1)).lsd();
    let origin = Node::start_in(&hosts.place(1), &origin);
    origin.wait_for_offer(closure.paths.len());
    let agent = channel.agent("agent").listen(hosts.address(2)).lsd();
    let agent = Node::start_in(&hosts.place(2), &agent);
    // It tries both of them all the time, and could be reached.
    let stranger = channel
        .agent("stranger")
        .share("public")
        .listen(hosts.address_behind(3))
        .peer(origin.peer)
        .peer(agent.peer);
    let stranger = Node::start_in(&beyond, &stranger);

    agent.wait_for_channel();
    agent.wait("neighbour", |s| s["swarm"]["neighbours"] == 1);
    channel.fetch_from_swarm(&agent);
    assert_eq!(stranger.get(&closure.top().narinfo()).status, 200);
    assert_eq!(stranger.get(&closure.top().nar()).status, 404);
    assert_eq!(stranger.status()["swarm"]["neighbours"], 0);
    for k in [1, 2] {
        wait_for("answer to the stranger's SYN", PATIENCE, || {
            (packets(&hosts, k, "reached") > 0).then_some(())
        });
        assert!(packets(&hosts, k, "near") > 0);
        assert_eq!(packets(&hosts, k, "beyond"), 0);
    }
}
