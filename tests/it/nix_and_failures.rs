//! Real Nix on top of what fails: it goes on where it was cut off, and a path that is gone costs it no time.

use std::{
    path::Path,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::lab::{
    Answer, LoneNar, Manner, Node, NodeConfig, Place, ScriptedPeer, Substitution, get,
};

const SIZE: u64 = 6_000_000;
/// Nix's own start included.
const QUICK: Duration = Duration::from_secs(15);

fn substitution<'a>(lone: &'a LoneNar, agent: &Node, to: &'a Path) -> Substitution<'a> {
    Substitution {
        nix: &lone.nix,
        place: &Place::Here,
        shim: agent.shim,
        key: &lone.keys.narinfo,
        to,
    }
}

/// The only upstream cuts once, and knows nothing of ranges: the connection is cut, and Nix asks for the rest.
#[test]
fn nix_goes_on_after_a_cut() {
    let Some(lone) = LoneNar::new("nix_goes_on_after_a_cut", SIZE) else {
        return;
    };
    let cuts = AtomicU32::new(0);
    let upstream = lone.upstream(move |body| match cuts.fetch_add(1, Relaxed) {
        0 => Answer::Cut(body, 3_000_000),
        _ => Answer::Body(body),
    });
    let config = lone
        .stranger("agent")
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let agent = Node::start(&config);
    let store = lone.scratch.path("agent-store");
    substitution(&lone, &agent, &store).fetch(&lone.closure);
    assert_eq!(upstream.asked_for("/nar/"), 2);
}

/// Peers leave at half, an upstream has the rest.
#[test]
fn nix_notices_nothing_when_peers_leave() {
    let Some(lone) = LoneNar::new("nix_notices_nothing_when_peers_leave", SIZE) else {
        return;
    };
    let peer = ScriptedPeer::start(&lone.payload, Manner::Vanishes(SIZE / 2));
    let upstream = lone.good_upstream();
    let config = lone
        .agent("agent")
        .peer(peer.address)
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let agent = Node::start(&config);
    // The peer has shown the info dict by then: it is asked first.
    assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
    agent.wait("peer that answers", |s| s["swarm"]["reachable"] == 1);
    let store = lone.scratch.path("agent-store");
    substitution(&lone, &agent, &store).fetch(&lone.closure);
    assert!(peer.sent() > 0 && upstream.asked_for("/nar/") > 0);
}

/// A NAR that nobody has: Nix is told soon.
#[test]
fn nix_is_told_soon_that_nobody_has_it() {
    let Some(lone) = LoneNar::new("nix_is_told_soon_that_nobody_has_it", SIZE) else {
        return;
    };
    let gone = lone.upstream(|_| Answer::Status(404));
    let broken = lone.upstream(|_| Answer::Status(500));
    let key = &lone.keys.narinfo;
    let cases: [(&str, NodeConfig); 3] = [
        ("gone", lone.stranger("gone").upstream(&gone.url(), key)),
        (
            "broken",
            lone.stranger("broken").upstream(&broken.url(), key),
        ),
        ("listed", lone.agent("listed")),
    ];
    for (name, config) in cases {
        let agent = Node::start(&config);
        let start = Instant::now();
        let store = lone.scratch.path(&format!("{name}-store"));
        let outcome = substitution(&lone, &agent, &store).realise(&lone.closure.top);
        assert_ne!(outcome.code, 0, "{name}");
        assert!(start.elapsed() < QUICK, "{name}: {:?}", start.elapsed());
    }
}
