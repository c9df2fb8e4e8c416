//! What came from an upstream is a payload then, and others have it from this machine without any store between.

use std::{fs, thread};

use narswarm::payload::FRAME_SIZE;

use crate::lab::{Answer, LoneNar, Manner, Node, ScriptedPeer, get};

const SIZE: u64 = 6_000_000;

/// Asks for the narinfo, and waits until a peer has sent the info dict.
fn ask_and_meet(lone: &LoneNar, agent: &Node) {
    assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
    agent.wait("a peer that answers", |status| {
        status["swarm"]["reachable"] == 1
    });
}

#[test]
fn the_next_machine_needs_no_upstream() {
    let Some(lone) = LoneNar::new("the_next_machine_needs_no_upstream", SIZE) else {
        return;
    };
    let upstream = lone.good_upstream();
    let first = lone
        .agent("first")
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let first = Node::start(&first);
    lone.check(&first);
    first.wait_for_offer(1);
    let second = Node::start(&lone.agent("second").peer(first.peer));
    lone.check(&second);
    assert_eq!(second.bytes("swarm"), lone.path().nar_size);
    // It is kept, so that nobody is asked for it again.
    upstream.forget();
    lone.check(&first);
    assert_eq!(upstream.asked().len(), 0);
}

/// Pieces are offered as they are made: what is through is passed on, although the rest never comes.
#[test]
fn pieces_are_offered_while_the_nar_comes() {
    let Some(lone) = LoneNar::new("pieces_are_offered_while_the_nar_comes", 2 * SIZE) else {
        return;
    };
    // The info dict is what the first machine had from a peer that had nothing else.
    let peer = ScriptedPeer::start(&lone.payload, Manner::Stalls);
    let upstream = lone.upstream(|body| Answer::Stall(body, 2 * FRAME_SIZE + 500_000));
    let first = lone
        .agent("first")
        .upstream(&upstream.url(), &lone.keys.narinfo)
        .peer(peer.address);
    let first = Node::start(&first);
    ask_and_meet(&lone, &first);
    let second = Node::start(&lone.agent("second").peer(first.peer));
    for node in [&first, &second] {
        let (shim, nar) = (node.shim, lone.path().nar());
        // Both are cut off in the end; until then they have the frame.
        thread::spawn(move || get(shim, &nar));
        node.wait("a frame", |status| {
            status["downloads"][0]["done"].as_u64() >= Some(FRAME_SIZE as u64)
        });
    }
    assert!(second.bytes("swarm") >= FRAME_SIZE as u64);
}

/// What a download left is gone on with, not begun anew.
#[test]
fn a_part_is_completed_by_the_upstream() {
    let Some(lone) = LoneNar::new("a_part_is_completed_by_the_upstream", SIZE) else {
        return;
    };
    let peer = ScriptedPeer::start(&lone.payload, Manner::Vanishes(SIZE / 2));
    let upstream = lone.good_upstream();
    let config = lone
        .agent("agent")
        .upstream(&upstream.url(), &lone.keys.narinfo)
        .peer(peer.address);
    let agent = Node::start(&config);
    ask_and_meet(&lone, &agent);
    lone.check(&agent);
    assert!(peer.sent() >= SIZE / 2, "{}", peer.sent());
    agent.wait_for_offer(1);
    let info_hash = lone.payload.info.info_hash();
    let kept = agent.state().join(format!("cache/{info_hash}.nar.zst"));
    assert!(fs::read(kept).unwrap() == *lone.payload.bytes);
    let left = fs::read_dir(agent.state().join("cache")).unwrap().count();
    assert_eq!(left, 1, "nothing else stays");
    // Of the swarm only blocks of unfinished pieces went; the upstream was needed from its start.
    assert!(agent.bytes("wasted") <= 2 * 262_144, "{}", agent.status());
}
