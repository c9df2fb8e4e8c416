//! The machine that has just fetched a closure seeds it, out of its store, to the next one.

use std::fs;

use crate::lab::{Channel, Node};

#[test]
fn the_origin_goes_and_the_swarm_stays() {
    let Some(channel) = Channel::large("the_origin_goes_and_the_swarm_stays") else {
        return;
    };
    let closure = channel.closure;
    let origin = Node::start(&channel.seedbox("origin"));

    let second_config = channel.agent("second").peer(origin.peer);
    let second = Node::start(&second_config);
    channel.fetch(&second);
    // What Nix has just installed is offered without a restart.
    second.wait_for_offer(closure.paths.len());
    origin.stop();
    // Without what it downloaded there is only the store to seed from.
    second.stop();
    fs::remove_dir_all(second_config.state.join("cache")).unwrap();
    let second = Node::start(&second_config);
    second.wait_for_offer(closure.paths.len());

    let third = Node::start(&channel.agent("third").peer(second.peer));
    channel.fetch_from_swarm(&third);
    assert_eq!(third.bytes("upstream"), 0);
    let status = second.status();
    assert_eq!(status["offer"]["withdrawn"], 0);
    let payloads = channel.publication.number("payload_bytes");
    assert!(status["bytes"]["uploaded"].as_u64().unwrap() >= payloads);
}
