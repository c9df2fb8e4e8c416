//! A tracker brings the agents of a channel together, and learns nothing but the channel's topic.

use std::collections::BTreeMap;

use crate::lab::{Channel, Node, TopicTracker, topic};

#[test]
fn a_tracker_and_the_link_are_enough() {
    let Some(channel) = Channel::small("a_tracker_and_the_link_are_enough", &[]) else {
        return;
    };
    let tracker = TopicTracker::start();
    let seedbox = Node::start(&channel.seedbox("seedbox").tracker(&tracker.url()));
    seedbox.wait("announce", |_| !tracker.announced().is_empty());
    let agent = Node::start(&channel.linked("agent").tracker(&tracker.url()));
    agent.wait_for_channel();
    channel.fetch_from_swarm(&agent);
    let topic = topic(&channel.publication);
    assert_eq!(tracker.announced(), BTreeMap::from([(topic, 2)]));

    // Who shares with nobody is told of nowhere.
    let silent = channel
        .linked("silent")
        .tracker(&tracker.url())
        .share("off");
    let silent = Node::start(&silent.peer(seedbox.peer));
    silent.wait_for_channel();
    assert_eq!(tracker.announced(), BTreeMap::from([(topic, 2)]));
}
