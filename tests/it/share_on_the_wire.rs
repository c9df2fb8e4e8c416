//! `share`, looked at from the wire: with `lan` machines of one network serve each other, and nobody beyond it; with `off`
//! nobody there hears of this one any more.

use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use crate::lab::{Channel, Hosts, Need, Node, PROGRAM, Way, topic, wait_for};

const NEEDS: [Need; 2] = [Need::Namespaces, Need::Program("nft")];
/// Headers of IP and TCP with all options that Linux sets: what is longer carries something.
const HEADERS: &str = "80";
const PATIENCE: Duration = Duration::from_secs(30);

/// Of local service discovery (BEP 14).
const LSD: (&str, u16) = ("239.192.152.143", 6771);
/// A search for the same topic is answered once a second.
const SEARCH_INTERVAL: Duration = Duration::from_millis(1100);

/// Counts, on host `k`, the packets with content that leave it for another network and for its own; those of any kind that
/// leave it for the other one, so that it is seen whether anybody there has asked; and what it multicasts.
fn count(hosts: &Hosts, k: u8) {
    let nft = |arguments: &[&str]| hosts.run(k, "nft", arguments);
    nft(&["add", "table", "ip", "wire"]);
    nft(&["add", "counter", "ip", "wire", "beyond"]);
    nft(&["add", "counter", "ip", "wire", "near"]);
    nft(&["add", "counter", "ip", "wire", "reached"]);
    nft(&["add", "counter", "ip", "wire", "multicast"]);
    let hook = "{ type filter hook output priority 0 ; }";
    nft(&["add", "chain", "ip", "wire", "out", hook]);
    let lsd = ["udp", "dport", "6771", "counter", "name", "multicast"];
    nft(&[&["add", "rule", "ip", "wire", "out"], &lsd[..]].concat());
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

/// A machine that looks for a channel's agents by multicast, each time from another port.
struct Searcher {
    socket: UdpSocket,
    topic: String,
    port: u16,
    last: Instant,
}

impl Searcher {
    fn new(hosts: &Hosts, k: u8, topic: String) -> Self {
        let bound = (hosts.address(k), 0);
        Self {
            socket: hosts.place(k).run(|| UdpSocket::bind(bound)).unwrap(),
            topic,
            port: 20_000,
            last: Instant::now(),
        }
    }

    /// Searches until this node has heard it.
    #[track_caller]
    fn search(&mut self, node: &Node) {
        let known = || node.status()["swarm"]["peers"].as_u64().unwrap();
        let before = known();
        wait_for("search that is heard", PATIENCE, || {
            if self.last.elapsed() > SEARCH_INTERVAL {
                self.send();
            }
            (known() > before).then_some(())
        });
    }

    fn send(&mut self) {
        self.port += 1;
        self.last = Instant::now();
        let (group, group_port) = LSD;
        let message = format!(
            "BT-SEARCH * HTTP/1.1\r\nHost: {group}:{group_port}\r\nPort: {}\r\nInfohash: {}\r\n\r\n\r\n",
            self.port, self.topic
        );
        self.socket.send_to(message.as_bytes(), LSD).unwrap();
    }
}

#[test]
fn share_off_ends_multicast_and_lan_begins_it_anew() {
    let test = "share_off_ends_multicast_and_lan_begins_it_anew";
    let Some(channel) = Channel::small(test, &NEEDS) else {
        return;
    };
    let hosts = Hosts::new(2);
    count(&hosts, 1);
    let seedbox = channel.seedbox("seedbox").listen(hosts.address(1)).lsd();
    let seedbox = Node::start_in(&hosts.place(1), &seedbox);
    let share = |choice: &str| {
        let state = seedbox.state().to_str().unwrap();
        // It asks the node, which is in there.
        let place = hosts.place(1);
        place.output(PROGRAM, &["share", choice, "--state", state])
    };
    let sent = || packets(&hosts, 1, "multicast");
    let mut searcher = Searcher::new(&hosts, 2, topic(&channel.publication).to_string());
    // What is sent because of some searches, all of which are heard.
    let mut answers = || {
        let before = sent();
        (0..3).for_each(|_| searcher.search(&seedbox));
        sent() - before
    };
    wait_for("answer", PATIENCE, || (answers() > 0).then_some(()));
    share("off");
    wait_for("silence", PATIENCE, || (answers() == 0).then_some(()));
    let before = sent();
    share("lan");
    wait_for("announce", PATIENCE, || (sent() > before).then_some(()));
    wait_for("answer", PATIENCE, || (answers() > 0).then_some(()));
}
