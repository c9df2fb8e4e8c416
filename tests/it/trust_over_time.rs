//! What a publisher's servers, or whoever stands in their place, can do over time: withhold, and nothing else. The
//! attacks are those that TUF lists; a wrong channel and a lying one have tests of their own.

use std::{fs, time::Duration};

use crate::lab::{
    Answer, Forgery, HttpServer, Node, NodeConfig, Publication, Publisher, Release, TopicPeer, get,
    install, topic, wait_for,
};

const SOON: Duration = Duration::from_secs(20);

struct Lab {
    publisher: Publisher,
    /// With one path, and with all of them.
    first: Publication,
    second: Publication,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        let publisher = Publisher::new(test)?;
        let first = publisher.small_release("first").publish();
        let second = Release {
            more: vec![format!("--previous={}", first.out.display())],
            ..publisher.release("second")
        };
        let second = second.publish();
        assert_eq!(
            (first.number("sequence"), second.number("sequence")),
            (1, 2)
        );
        Some(Self {
            publisher,
            first,
            second,
        })
    }

    fn agent(&self, name: &str, manifest: &str) -> NodeConfig {
        let key = &self.publisher.keys.channel;
        self.publisher.agent(name).channel("lab", key, manifest)
    }
}

fn sequence(node: &Node) -> u64 {
    node.status()["channels"][0]["sequence"].as_u64().unwrap()
}

fn last_error(status: &serde_json::Value) -> &str {
    status["channels"][0]["last_error"]
        .as_str()
        .unwrap_or_default()
}

/// Rollback: an old release, correctly signed, is no way back, also not after a restart.
#[test]
fn an_old_release_stays_old_after_a_restart() {
    let Some(lab) = Lab::new("an_old_release_stays_old_after_a_restart") else {
        return;
    };
    let source = lab.publisher.source("source", &lab.second);
    let config = lab.agent("agent", source.to_str().unwrap());
    let agent = Node::start(&config);
    assert_eq!(sequence(&agent), 2);
    agent.stop();
    install(&lab.first.out, &source);
    // Even with all that was kept lost but the number.
    fs::remove_dir_all(config.state.join("pointers")).unwrap();
    let agent = Node::start(&config);
    let status = agent.wait("refusal", |status| {
        last_error(status).contains("but 2 was seen")
    });
    assert_eq!(status["channels"][0]["sequence"], 2, "{status}");
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.top().narinfo()).status,
        200
    );
}

/// Freeze: who is kept from news sees it, and keeps what there is.
#[test]
fn a_frozen_channel_is_stale_and_said_to_be() {
    let Some(lab) = Lab::new("a_frozen_channel_is_stale_and_said_to_be") else {
        return;
    };
    let short = Release {
        more: vec!["--lifetime=1s".to_owned()],
        ..lab.publisher.release("short")
    };
    let short = short.publish();
    let agent = Node::start(&lab.agent("agent", short.out.to_str().unwrap()));
    agent.wait("stale channel", |status| {
        status["channels"][0]["state"] == "stale"
    });
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.top().narinfo()).status,
        200
    );
}

/// Mix and match: the header of one release with the layers of another is no release.
#[test]
fn parts_of_two_releases_do_not_mix() {
    let Some(lab) = Lab::new("parts_of_two_releases_do_not_mix") else {
        return;
    };
    let source = lab.publisher.source("source", &lab.first);
    let agent = Node::start(&lab.agent("agent", source.to_str().unwrap()));
    assert_eq!(sequence(&agent), 1);
    let mixed = Forgery::of(&lab.second.out, lab.publisher.scratch.path("mixed"));
    let first = Forgery {
        directory: lab.first.out.clone(),
    };
    fs::copy(first.last_layer(), mixed.last_layer()).unwrap();
    install(&mixed.directory, &source);
    agent.wait("refusal", |status| {
        last_error(status).contains("is refused")
    });
    assert_eq!(sequence(&agent), 1);
}

/// Endless data, and slow retrieval: neither memory nor news suffer.
#[test]
fn an_endless_or_a_dripping_source_is_left_alone() {
    let Some(lab) = Lab::new("an_endless_or_a_dripping_source_is_left_alone") else {
        return;
    };
    let seedbox = lab.publisher.seedbox("seedbox").follow(&lab.first);
    let seedbox = Node::start(&seedbox);

    let endless = HttpServer::start(|_| Answer::Endless);
    let agent = Node::start(&lab.agent("endless", &endless.url()));
    let status = agent.wait("refusal", |status| {
        last_error(status).contains("larger than")
    });
    assert_eq!(status["channels"][0]["state"], "none", "{status}");
    assert!(agent.peak_memory() < 150_000_000, "{}", agent.peak_memory());

    let manifest = fs::read(lab.first.out.join("manifest")).unwrap();
    let dripping = HttpServer::start(move |_| Answer::Drip(manifest.clone(), 4));
    let agent = lab.agent("dripping", &dripping.url()).peer(seedbox.peer);
    let agent = Node::start(&agent);
    // Somebody else brings the pointer meanwhile.
    agent.wait_for_channel();
}

/// A pointer to nothing (a publisher that died in the act, or lies) takes nothing away and keeps nothing out.
#[test]
fn a_pointer_to_nothing_does_no_harm() {
    let Some(lab) = Lab::new("a_pointer_to_nothing_does_no_harm") else {
        return;
    };
    let source = lab.publisher.source("source", &lab.first);
    let agent = Node::start(&lab.agent("agent", source.to_str().unwrap()));
    assert_eq!(sequence(&agent), 1);
    let pointer = lab.first.pointer_to_nothing(9);
    let mut liar = TopicPeer::connect(agent.peer, topic(&lab.first), 1);
    liar.say_hello(0, &[]);
    liar.say_pointer(&pointer);
    agent.wait("attempt to follow it", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.inner().narinfo()).status,
        200
    );
    install(&lab.second.out, &source);
    wait_for("second release", SOON, || {
        (sequence(&agent) == 2).then_some(())
    });
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.top().narinfo()).status,
        200
    );
}

/// Nor does it keep the release before it from a machine that comes later and knows nothing else.
#[test]
fn behind_a_pointer_to_nothing_the_release_before_it_is_found() {
    let Some(lab) = Lab::new("behind_a_pointer_to_nothing_the_release_before_it_is_found") else {
        return;
    };
    let seedbox = lab.publisher.seedbox("seedbox").follow(&lab.second);
    let seedbox = Node::start(&seedbox);
    let mut liar = TopicPeer::connect(seedbox.peer, topic(&lab.second), 1);
    liar.say_hello(0, &[]);
    (7..30).for_each(|sequence| liar.say_pointer(&lab.first.pointer_to_nothing(sequence)));
    seedbox.wait("attempt to follow it", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    let agent = lab.publisher.agent("agent");
    let agent = agent.link(lab.second.text("link")).peer(seedbox.peer);
    let agent = Node::start(&agent);
    let status = agent.wait_for_channel();
    assert_eq!(status["channels"][0]["sequence"], 2, "{status}");
    // What stands in the way of the newest is said as well.
    agent.wait("reason", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.top().narinfo()).status,
        200
    );
}
