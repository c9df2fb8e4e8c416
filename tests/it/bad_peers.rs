//! Whatever peers do: right bytes from whoever else has them, a 404 or an honest cut in good time, never a wrong whole.

use std::{
    collections::HashSet,
    net::TcpListener,
    os::unix::fs::FileExt,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use crate::lab::{LoneNar, Manner, Node, ScriptedPeer, get, wait_for};

const SIZE: u64 = 6_000_000;
/// A head start of 0.4 s, or 2.5 s of silence in the middle, and then the whole from the upstream.
const REPLACED: Duration = Duration::from_secs(8);
/// Without any progress for 30 s a download has failed.
const GIVEN_UP: Duration = Duration::from_secs(40);

/// Of so many peers one peer may tell a download.
const TOLD_OF: usize = 80;
/// All that it tells may cost so much memory.
const GOSSIP_MEMORY: u64 = 30_000_000;

const MANNERS: [Manner; 6] = [
    Manner::Stalls,
    Manner::Garbage,
    Manner::Noise,
    Manner::Lies,
    Manner::Vanishes(SIZE / 2),
    Manner::Slow(20_000),
];

#[test]
fn an_upstream_replaces_a_bad_peer() {
    let Some(lone) = LoneNar::new("an_upstream_replaces_a_bad_peer", SIZE) else {
        return;
    };
    let upstream = lone.good_upstream();
    for manner in MANNERS {
        let peer = ScriptedPeer::start(&lone.payload, manner);
        let agent = lone
            .agent(&format!("{manner:?}"))
            .upstream(&upstream.url(), &lone.keys.narinfo)
            .peer(peer.address);
        let agent = Node::start(&agent);
        assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
        if manner != Manner::Noise {
            agent.wait("peer that answers", |s| s["swarm"]["reachable"] == 1);
        }
        lone.check_within(&agent, REPLACED);
        if matches!(
            manner,
            Manner::Garbage | Manner::Vanishes(_) | Manner::Slow(_)
        ) {
            assert!(peer.sent() > 0, "{manner:?}: the peer was not asked");
        }
    }
}

/// A disk that spoils a kept payload is nobody's lie.
#[test]
fn a_damaged_payload_is_fetched_again() {
    let Some(lone) = LoneNar::new("a_damaged_payload_is_fetched_again", SIZE) else {
        return;
    };
    let good = ScriptedPeer::start(&lone.payload, Manner::Honest);
    let agent = Node::start(&lone.agent("agent").peer(good.address));
    lone.check(&agent);
    let sent = good.sent();
    let name = format!("{}.nar.zst", lone.payload.info.info_hash());
    let kept = lone.scratch.path("agent").join("cache").join(name);
    wait_for("kept payload", GIVEN_UP, || kept.exists().then_some(()));
    let file = std::fs::File::options().write(true).open(&kept).unwrap();
    file.write_all_at(&[0; 5000], 1000).unwrap();
    // What of it Nix has already is wrong: that answer is cut off.
    let cut = get(agent.shim, &lone.path().nar());
    assert!(cut.body.len() < lone.bytes.len());
    lone.check(&agent);
    assert!(good.sent() > sent);
    let status = agent.status();
    assert_eq!(status["errors"].as_array().unwrap().len(), 0, "{status}");
}

#[test]
fn a_good_peer_replaces_a_bad_one() {
    let Some(lone) = LoneNar::new("a_good_peer_replaces_a_bad_one", SIZE) else {
        return;
    };
    let good = ScriptedPeer::start(&lone.payload, Manner::Honest);
    for manner in MANNERS {
        let peer = ScriptedPeer::start(&lone.payload, manner);
        let agent = lone
            .agent(&format!("{manner:?}"))
            .peer(peer.address)
            .peer(good.address);
        let agent = Node::start(&agent);
        lone.check_within(&agent, GIVEN_UP);
        // Garbage is thrown away a piece at a time, and its sender is left.
        let wasted = agent.bytes("wasted");
        assert!(wasted <= 2 * SIZE, "{manner:?}: {wasted} bytes");
    }
}

/// A peer that gives nothing, and tells of a hundred thousand others: the agent goes to few of them, and forgets the rest.
#[test]
fn a_peer_that_gossips_without_end_costs_little() {
    let test = "a_peer_that_gossips_without_end_costs_little";
    let Some(lone) = LoneNar::new(test, SIZE / 2) else {
        return;
    };
    // Whoever is told of is here.
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let visited = Arc::new(Mutex::new(HashSet::new()));
    thread::spawn({
        let visited = visited.clone();
        move || {
            for stream in listener.incoming().flatten() {
                visited.lock().unwrap().extend(stream.local_addr().ok());
            }
        }
    });
    let gossip = ScriptedPeer::start(&lone.payload, Manner::Gossips(port));
    // So slow that there is time to go there.
    let honest = ScriptedPeer::start(&lone.payload, Manner::Slow(300_000));
    let agent = lone
        .agent("agent")
        .peer(gossip.address)
        .peer(honest.address);
    let agent = Node::start(&agent);
    agent.wait_for_channel();
    let before = agent.peak_memory();
    lone.check_within(&agent, GIVEN_UP);
    let cost = agent.peak_memory() - before;
    let visited = visited.lock().unwrap().len();
    println!(
        "{} messages, {cost} bytes, {visited} visited",
        gossip.gossiped()
    );
    assert!(gossip.gossiped() > 1000);
    assert!(cost < GOSSIP_MEMORY, "{cost}");
    assert!((1..=TOLD_OF).contains(&visited), "{visited} peers");
}

/// With nobody else: nothing was sent, so it is a 404; or it is cut off, and what came is right.
#[track_caller]
fn alone(test: &str, manner: Manner) {
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let peer = ScriptedPeer::start(&lone.payload, manner);
    let agent = Node::start(&lone.agent("agent").peer(peer.address));
    lone.check_failure(&agent, GIVEN_UP);
    assert!(agent.bytes("wasted") <= 3 * SIZE);
}

#[test]
fn a_peer_that_stalls() {
    alone("a_peer_that_stalls", Manner::Stalls);
}

#[test]
fn a_peer_that_sends_garbage() {
    alone("a_peer_that_sends_garbage", Manner::Garbage);
}

#[test]
fn a_peer_that_speaks_no_bittorrent() {
    alone("a_peer_that_speaks_no_bittorrent", Manner::Noise);
}

#[test]
fn a_peer_that_lies_about_its_pieces() {
    alone("a_peer_that_lies_about_its_pieces", Manner::Lies);
}

#[test]
fn all_peers_are_gone_at_half() {
    alone("all_peers_are_gone_at_half", Manner::Vanishes(SIZE / 2));
}
