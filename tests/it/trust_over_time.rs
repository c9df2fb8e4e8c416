//! What a publisher's servers, or whoever stands in their place, can do over time: withhold, and nothing else. The
//! attacks are those that TUF lists; a wrong channel and a lying one have tests of their own.

use std::{fs, path::PathBuf, time::Duration};

use crate::lab::{
    Answer, Closure, Forgery, HttpServer, Keys, Need, Nix, Node, NodeConfig, Publication, Release,
    Scratch, TopicPeer, get, install, topic, wait_for,
};

const SOON: Duration = Duration::from_secs(20);

struct Lab {
    scratch: Scratch,
    closure: &'static Closure,
    keys: Keys,
    /// With one path, and with all of them.
    first: Publication,
    second: Publication,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        if !Need::all(test, &[Need::NIX]) {
            return None;
        }
        let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
        let keys = Keys::make(&nix, &scratch.path("keys"));
        let second = Release::of(closure, &keys, scratch.path("second"));
        let first = Release {
            paths: vec![closure.inner().store_path.clone()],
            ..Release::of(closure, &keys, scratch.path("first"))
        };
        let first = first.publish();
        let second = Release {
            more: vec![format!("--previous={}", first.out.display())],
            ..second
        };
        let second = second.publish();
        assert_eq!(
            (first.number("sequence"), second.number("sequence")),
            (1, 2)
        );
        Some(Self {
            scratch,
            closure,
            keys,
            first,
            second,
        })
    }

    fn agent(&self, name: &str, manifest: &str) -> NodeConfig {
        NodeConfig::agent(self.scratch.path(name), &self.scratch.path("store"))
            .channel("lab", &self.keys.channel, manifest)
            .trust(&self.keys.narinfo)
    }

    /// A directory with a release, to be replaced by another's.
    fn source(&self, name: &str, publication: &Publication) -> PathBuf {
        let source = self.scratch.path(name);
        install(&publication.out, &source);
        source
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
    let source = lab.source("source", &lab.second);
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
    assert_eq!(get(agent.shim, &lab.closure.top().narinfo()).status, 200);
    // Nor does a pointer lead back.
    let mut replayer = TopicPeer::connect(agent.peer, topic(&lab.first), 1);
    replayer.say_hello(0, &[]);
    let pointer = fs::read(lab.first.out.join("pointer")).unwrap();
    replayer.say_pointer(&pointer);
    assert_eq!(sequence(&agent), 2);
}

/// Freeze: who is kept from news sees it, and keeps what there is.
#[test]
fn a_frozen_channel_is_stale_and_said_to_be() {
    let Some(lab) = Lab::new("a_frozen_channel_is_stale_and_said_to_be") else {
        return;
    };
    let short = Release {
        more: vec!["--lifetime=1s".to_owned()],
        ..Release::of(lab.closure, &lab.keys, lab.scratch.path("short"))
    };
    let short = short.publish();
    let agent = Node::start(&lab.agent("agent", short.out.to_str().unwrap()));
    agent.wait("stale channel", |status| {
        status["channels"][0]["state"] == "stale"
    });
    assert_eq!(get(agent.shim, &lab.closure.top().narinfo()).status, 200);
}

/// Mix and match: the header of one release with the layers of another is no release.
#[test]
fn parts_of_two_releases_do_not_mix() {
    let Some(lab) = Lab::new("parts_of_two_releases_do_not_mix") else {
        return;
    };
    let source = lab.source("source", &lab.first);
    let agent = Node::start(&lab.agent("agent", source.to_str().unwrap()));
    assert_eq!(sequence(&agent), 1);
    let mixed = Forgery::of(&lab.second.out, lab.scratch.path("mixed"));
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
    let seedbox = lab.scratch.path("seedbox");
    let seedbox = NodeConfig::store_seedbox(seedbox, &lab.closure.root).follow(&lab.first);
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
    let source = lab.source("source", &lab.first);
    let agent = Node::start(&lab.agent("agent", source.to_str().unwrap()));
    assert_eq!(sequence(&agent), 1);
    let pointer = lab.first.pointer_to_nothing(9);
    let mut liar = TopicPeer::connect(agent.peer, topic(&lab.first), 1);
    liar.say_hello(0, &[]);
    liar.say_pointer(&pointer);
    agent.wait("attempt to follow it", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    assert_eq!(get(agent.shim, &lab.closure.inner().narinfo()).status, 200);
    install(&lab.second.out, &source);
    wait_for("second release", SOON, || {
        (sequence(&agent) == 2).then_some(())
    });
    assert_eq!(get(agent.shim, &lab.closure.top().narinfo()).status, 200);
}

/// Nor does it keep the release before it from a machine that comes later and knows nothing else.
#[test]
fn behind_a_pointer_to_nothing_the_release_before_it_is_found() {
    let Some(lab) = Lab::new("behind_a_pointer_to_nothing_the_release_before_it_is_found") else {
        return;
    };
    let seedbox = lab.scratch.path("seedbox");
    let seedbox = NodeConfig::store_seedbox(seedbox, &lab.closure.root).follow(&lab.second);
    let seedbox = Node::start(&seedbox);
    let mut liar = TopicPeer::connect(seedbox.peer, topic(&lab.second), 1);
    liar.say_hello(0, &[]);
    (7..30).for_each(|sequence| liar.say_pointer(&lab.first.pointer_to_nothing(sequence)));
    seedbox.wait("attempt to follow it", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    let agent = NodeConfig::agent(lab.scratch.path("agent"), &lab.scratch.path("store"));
    let agent = agent
        .link(lab.second.text("link"))
        .trust(&lab.keys.narinfo)
        .peer(seedbox.peer);
    let agent = Node::start(&agent);
    let status = agent.wait_for_channel();
    assert_eq!(status["channels"][0]["sequence"], 2, "{status}");
    // What stands in the way of the newest is said as well.
    agent.wait("reason", |status| {
        last_error(status).contains("downloading from the swarm")
    });
    assert_eq!(get(agent.shim, &lab.closure.top().narinfo()).status, 200);
}
