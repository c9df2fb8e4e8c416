//! What a verified manifest names is used: its seedboxes, and its trackers.

use crate::lab::{Channel, Node, Release, TopicTracker};

/// They read the publisher's directory, and know of each other by what the newest release says.
#[test]
fn seedboxes_and_trackers_of_the_manifest_are_enough() {
    let test = "seedboxes_and_trackers_of_the_manifest_are_enough";
    let Some(channel) = Channel::small(test, &[]) else {
        return;
    };
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    seedbox.wait_for_offer(channel.closure.paths.len());
    let tracker = TopicTracker::start();
    let publish = |name: &str, named: String| {
        let release = Release {
            name: name.to_owned(),
            more: vec![named],
            ..Release::of(
                channel.closure,
                &channel.publication.keys,
                channel.publication.out.clone(),
            )
        };
        release.publish()
    };

    publish("r2", format!("--seedbox={}", seedbox.peer));
    let agent = Node::start(&channel.agent("agent"));
    agent.wait_for_channel();
    channel.fetch_from_swarm(&agent);

    // What an agent follows while it runs counts as well.
    publish("r3", format!("--tracker={}", tracker.url()));
    seedbox.wait("announce", |_| !tracker.announced().is_empty());
    let late = Node::start(&channel.agent("late"));
    late.wait_for_channel();
    channel.fetch_from_swarm(&late);
}
