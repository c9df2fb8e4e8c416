//! A holder behind NAT serves those whom it knows by dialling back; two of them cannot meet, and say why.

use crate::lab::{Channel, Hosts, Need, Node, Way};

const NEEDS: [Need; 2] = [Need::Namespaces, Need::Program("nft")];

#[test]
fn a_holder_behind_nat_dials_back() {
    let Some(channel) = Channel::small("a_holder_behind_nat_dials_back", &NEEDS) else {
        return;
    };
    let mut hosts = Hosts::new(2);
    let inside = hosts.behind(2, Way::Nat);

    // It knows nobody, and can be reached.
    let agent = channel.agent("agent").listen(hosts.address(1));
    let agent = Node::start_in(&hosts.place(1), &agent);
    let holder = channel
        .seedbox("holder")
        .share("public")
        .listen(hosts.address_behind(2))
        .peer(agent.peer);
    let holder = Node::start_in(&inside, &holder);
    let status = holder.wait("port that is closed", |s| s["swarm"]["port"] == "closed");
    let why = status["swarm"]["nat"].as_str().unwrap();
    assert!(why.contains("reached by no neighbour, 1 tried"), "{why}");
    check_doctor(&holder, "reached by no neighbour, 1 tried");
    agent.wait("neighbour", |s| s["swarm"]["neighbours"] == 1);

    channel.fetch_from_swarm(&agent);
    assert!(holder.bytes("uploaded") > 0);
}

#[test]
fn two_behind_nat_say_why_they_cannot_meet() {
    let Some(channel) = Channel::small("two_behind_nat_say_why_they_cannot_meet", &NEEDS) else {
        return;
    };
    let mut hosts = Hosts::new(3);
    let [first, second] = [2, 3].map(|k| hosts.behind(k, Way::Nat));
    let meeting = channel
        .meeting_point("meeting")
        .share("public")
        .listen(hosts.address(1));
    let meeting = Node::start_in(&hosts.place(1), &meeting);
    let holder = channel
        .seedbox("holder")
        .share("public")
        .listen(hosts.address_behind(2))
        .peer(meeting.peer);
    let holder = Node::start_in(&first, &holder);
    holder.wait_for_offer(channel.closure.paths.len());
    let agent = channel
        .agent("agent")
        .share("public")
        .listen(hosts.address_behind(3))
        .peer(meeting.peer);
    let agent = Node::start_in(&second, &agent);
    for node in [&holder, &agent] {
        node.wait("port that is closed", |s| s["swarm"]["port"] == "closed");
    }
    // What the meeting point has heard of the holder it tells the agent when that asks.
    agent.wait("reason", |status| {
        assert_eq!(agent.get(&channel.closure.top().narinfo()).status, 200);
        assert_eq!(agent.get(&channel.closure.top().nar()).status, 404);
        let why = status["swarm"]["nat"].as_str().unwrap_or_default();
        why.contains("1 machine has what was asked for and cannot be reached either")
    });
    check_doctor(&holder, "reached by no neighbour");
    check_doctor(&agent, "cannot be reached either");
}

/// The doctor says what is wrong with the port, and what to do about it.
#[track_caller]
fn check_doctor(node: &Node, says: &str) {
    let page = node.doctor();
    let findings = page["findings"].as_array().unwrap();
    let port = findings
        .iter()
        .find(|finding| finding["name"] == "public port");
    let port = port.unwrap_or_else(|| panic!("nothing of the port in {page}"));
    assert_eq!(port["state"], "warn", "{page}");
    assert!(port["found"].as_str().unwrap().contains(says), "{page}");
    assert!(
        port["remedy"]
            .as_str()
            .unwrap()
            .contains("forward TCP and UDP port"),
        "{page}"
    );
}
