//! A clock that is years off takes nothing away: a machine that comes when the publisher is dead gets everything from the
//! others, and says what it thinks of the release's age.

use serde_json::Value;

use crate::lab::{
    Clock, Closure, Need, Nix, Node, NodeConfig, Place, Publication, Scratch, Substitution,
};

struct Case {
    name: &'static str,
    clock: Clock,
    state: &'static str,
    /// What `doctor` finds, and what it says of it.
    finding: &'static str,
    says: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        name: "ahead",
        clock: Clock::Off("+5y"),
        state: "stale",
        finding: "channel",
        says: "expired",
    },
    Case {
        name: "behind",
        clock: Clock::Off("-5y"),
        state: "ok",
        finding: "clock",
        says: "behind the newest release",
    },
];

#[test]
fn five_years_ahead_or_behind_everything_still_comes() {
    let name = "five_years_ahead_or_behind_everything_still_comes";
    if !Need::all(name, &[Need::NIX, Clock::NEED]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let store = |name: &str| scratch.path(&format!("{name}-store"));
    let fetch = |name: &str, node: &Node| {
        let substitution = Substitution {
            nix: &nix,
            place: &Place::Here,
            shim: node.shim,
            key: &publication.keys.narinfo,
            to: &store(name),
        };
        substitution.fetch(closure);
    };
    let agent = |name: &str| {
        NodeConfig::agent(scratch.path(name), &store(name))
            .link(publication.text("link"))
            .trust(&publication.keys.narinfo)
    };
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication));
    let other = Node::start(&agent("other").peer(seedbox.peer));
    other.wait_for_channel();
    fetch("other", &other);
    other.wait_for_offer(closure.paths.len());
    seedbox.kill();

    for case in &CASES {
        let config = agent(case.name).clock(case.clock).peer(other.peer);
        let late = Node::start(&config);
        let status = late.wait("release", |status| status["channels"][0]["sequence"] == 1);
        let channel = &status["channels"][0];
        assert_eq!(channel["state"], case.state, "{}: {status}", case.name);
        fetch(case.name, &late);
        assert_eq!(late.bytes("swarm"), closure.nar_bytes(), "{}", case.name);
        let page = late.doctor();
        let says = |finding: &Value| {
            let found = finding["found"].as_str().unwrap_or_default();
            finding["name"] == case.finding
                && finding["state"] == "warn"
                && found.contains(case.says)
        };
        assert!(
            page["findings"].as_array().unwrap().iter().any(says),
            "{page}"
        );
    }
}
