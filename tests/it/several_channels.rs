//! Several releases of a channel, and several channels, are one catalog; and one NAR is one swarm, whoever published it.

use crate::lab::{Channel, InstalledPath, Keys, Node, NodeConfig, Release, get};

/// Paths that need nothing but themselves.
fn leaves(channel: &Channel) -> Vec<&InstalledPath> {
    let alone = |path: &&InstalledPath| {
        path.references
            .iter()
            .all(|other| *other == path.store_path)
    };
    channel.closure.paths.iter().filter(alone).collect()
}

fn statuses(agent: &Node, paths: &[&InstalledPath]) -> Vec<u16> {
    let status = |path: &&InstalledPath| get(agent.shim, &path.narinfo()).status;
    paths.iter().map(status).collect()
}

/// A release does not take from those who lag behind what the one before it had.
#[test]
fn the_last_releases_are_kept_and_the_one_before_them_goes() {
    let test = "the_last_releases_are_kept_and_the_one_before_them_goes";
    let Some(channel) = Channel::small(test, &[]) else {
        return;
    };
    let paths = &leaves(&channel)[..3];
    let publish = |path: &InstalledPath| {
        let release = Release {
            channel: "leaves".to_owned(),
            paths: vec![path.store_path.clone()],
            ..Release::of(
                channel.closure,
                &channel.publication.keys,
                channel.scratch.path("leaves"),
            )
        };
        release.publish()
    };
    let first = publish(paths[0]);
    let config = channel.stranger("agent").follow(&first).keep_releases(2);
    let agent = Node::start(&config);
    let follow = |sequence: u64| {
        agent.wait("release", |status| {
            status["channels"][0]["sequence"] == sequence
        });
    };
    follow(1);
    assert_eq!(statuses(&agent, paths), [200, 404, 404]);
    publish(paths[1]);
    follow(2);
    assert_eq!(statuses(&agent, paths), [200, 200, 404]);
    publish(paths[2]);
    follow(3);
    assert_eq!(statuses(&agent, paths), [404, 200, 200]);
    agent.stop();
    let agent = Node::start(&config);
    assert_eq!(statuses(&agent, paths), [404, 200, 200]);
}

/// Neither machine has heard of the other's channel: the NARs are the same, and so are their torrents.
#[test]
fn two_publishers_of_one_nar_share_its_swarm() {
    let Some(channel) = Channel::small("two_publishers_of_one_nar_share_its_swarm", &[]) else {
        return;
    };
    let other = Release {
        channel: "other".to_owned(),
        ..Release::of(
            channel.closure,
            &Keys::make(&channel.nix, &channel.scratch.path("other-keys")),
            channel.scratch.path("other"),
        )
    };
    let other = other.publish();
    let seedbox = channel.scratch.path("seedbox");
    let seedbox = NodeConfig::store_seedbox(seedbox, &channel.closure.root).follow(&other);
    let seedbox = Node::start(&seedbox);
    seedbox.wait_for_offer(channel.closure.paths.len());
    let agent = Node::start(&channel.agent("agent").peer(seedbox.peer));
    agent.wait_for_channel();
    channel.fetch_from_swarm(&agent);
    assert_eq!(seedbox.status()["swarm"]["neighbours"], 0);

    // Whoever follows both knows the paths of either, whichever key signed them.
    let both = channel.agent("both").follow(&other).peer(seedbox.peer);
    let both = Node::start(&both);
    both.wait("two channels", |status| {
        status["channels"][1]["state"] == "ok"
    });
    channel.fetch_from_swarm(&both);
}
