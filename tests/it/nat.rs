//! A holder behind NAT serves those whom it knows by dialling back; two of them cannot meet, and say why.

use crate::lab::{
    Closure, Hosts, Need, Nix, Node, NodeConfig, Publication, Scratch, Substitution, Way,
};

const NEEDS: [Need; 3] = [Need::NIX, Need::Namespaces, Need::Program("nft")];

#[test]
fn a_holder_behind_nat_dials_back() {
    if !Need::all("a_holder_behind_nat_dials_back", &NEEDS) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let mut hosts = Hosts::new(2);
    let inside = hosts.behind(2, Way::Nat);

    // It knows nobody, and can be reached.
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .listen(hosts.address(1));
    let agent = Node::start_in(&hosts.place(1), &agent);
    let holder = NodeConfig::store_seedbox(scratch.path("holder"), &closure.root)
        .follow(&publication)
        .share("public")
        .listen(hosts.address_behind(2))
        .peer(agent.peer);
    let holder = Node::start_in(&inside, &holder);
    let status = holder.wait("port that is closed", |s| s["swarm"]["port"] == "closed");
    let why = status["swarm"]["nat"].as_str().unwrap();
    assert!(why.contains("reached by none of 1 neighbours"), "{why}");
    check_doctor(&holder, "reached by none of 1 neighbours");
    agent.wait("neighbour", |s| s["swarm"]["neighbours"] == 1);

    let substitution = Substitution {
        nix: &nix,
        place: &hosts.place(1),
        shim: agent.shim,
        key: &publication.keys.narinfo,
        to: &scratch.path("store"),
    };
    substitution.fetch(closure);
    assert_eq!(agent.bytes("swarm"), closure.nar_bytes());
    assert!(holder.bytes("uploaded") > 0);
}

#[test]
fn two_behind_nat_say_why_they_cannot_meet() {
    if !Need::all("two_behind_nat_say_why_they_cannot_meet", &NEEDS) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let mut hosts = Hosts::new(3);
    let [first, second] = [2, 3].map(|k| hosts.behind(k, Way::Nat));
    let empty = scratch.directory("empty");
    let meeting = NodeConfig::payload_seedbox(scratch.path("meeting"), &empty)
        .follow(&publication)
        .share("public")
        .listen(hosts.address(1));
    let meeting = Node::start_in(&hosts.place(1), &meeting);
    let holder = NodeConfig::store_seedbox(scratch.path("holder"), &closure.root)
        .follow(&publication)
        .share("public")
        .listen(hosts.address_behind(2))
        .peer(meeting.peer);
    let holder = Node::start_in(&first, &holder);
    holder.wait_for_offer(closure.paths.len());
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .share("public")
        .listen(hosts.address_behind(3))
        .peer(meeting.peer);
    let agent = Node::start_in(&second, &agent);
    for node in [&holder, &agent] {
        node.wait("port that is closed", |s| s["swarm"]["port"] == "closed");
    }
    // What the meeting point has heard of the holder it tells the agent when that asks.
    agent.wait("reason", |status| {
        assert_eq!(agent.get(&closure.top().narinfo()).status, 200);
        assert_eq!(agent.get(&closure.top().nar()).status, 404);
        let why = status["swarm"]["nat"].as_str().unwrap_or_default();
        why.contains("1 machines have what was asked for and are behind NAT as well")
    });
    check_doctor(&holder, "reached by none of");
    check_doctor(&agent, "are behind NAT as well");
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
