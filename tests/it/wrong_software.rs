//! Correctly signed, and yet another's: the release of another channel, of another system, or under another name is not
//! taken for this one's, whoever offers it.

use crate::lab::{
    Forgery, Keys, Node, Publication, Publisher, Release, TopicPeer, get, install, topic,
};

struct Lab {
    publisher: Publisher,
    /// The followed channel, with one path.
    own: Publication,
    /// Another channel of the same publisher, under the same key, with more paths and a higher sequence.
    other: Publication,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        let publisher = Publisher::new(test)?;
        let own = publisher.small_release("own").publish();
        let other = Release {
            channel: "other".to_owned(),
            ..publisher.release("other")
        };
        other.publish();
        let second = Release {
            name: "r2".to_owned(),
            ..other
        };
        let other = second.publish();
        assert_eq!((own.number("sequence"), other.number("sequence")), (1, 2));
        Some(Self {
            publisher,
            own,
            other,
        })
    }

    /// The refusal is said, the release that was there stays, and what only the other one lists is not known.
    #[track_caller]
    fn check_refusal(&self, agent: &Node, says: &[&str]) {
        let status = agent.wait(&format!("refusal that says {says:?}"), |status| {
            let error = status["channels"][0]["last_error"].as_str();
            error.is_some_and(|error| says.iter().all(|word| error.contains(word)))
        });
        let channel = &status["channels"][0];
        assert_eq!(
            (&channel["sequence"], &channel["state"]),
            (&1.into(), &"ok".into()),
            "{status}"
        );
        let narinfo = |path: &str| get(agent.shim, path).status;
        assert_eq!(narinfo(&self.publisher.closure.inner().narinfo()), 200);
        assert_eq!(narinfo(&self.publisher.closure.top().narinfo()), 404);
    }
}

#[test]
fn a_source_that_offers_anothers_release_is_refused() {
    let Some(lab) = Lab::new("a_source_that_offers_anothers_release_is_refused") else {
        return;
    };
    type Change = fn(&Forgery, &Keys);
    let cases: [(&str, Change, &[&str]); 3] = [
        (
            "channel",
            |_, _| {},
            &["of channel other", "lab was asked for"],
        ),
        (
            "release",
            |forgery, _| {
                let manifest = forgery.manifest();
                let at = manifest
                    .windows(4)
                    .position(|part| part == b"2:r2")
                    .unwrap();
                let mut renamed = manifest;
                renamed[at + 3] = b'9';
                forgery.set_manifest(&renamed);
            },
            &["signature by lab-channel-1"],
        ),
        (
            "system",
            |forgery, keys| {
                let header = replaced(&forgery.header(), b"5:other", b"3:lab");
                let header = replaced(&header, b"12:x86_64-linux", b"13:aarch64-linux");
                forgery.sign(&header, &keys.channel_secret);
            },
            &["says x86_64-linux for its system", "aarch64-linux"],
        ),
    ];
    let start = |(name, change, says): (&'static str, Change, &'static [&'static str])| {
        let source = lab.publisher.source(&format!("{name}-source"), &lab.own);
        let agent = lab.publisher.agent(name);
        let agent = agent.channel("lab", &lab.publisher.keys.channel, source.to_str().unwrap());
        let agent = Node::start(&agent);
        agent.wait_for_channel();
        let forgery = Forgery::of(
            &lab.other.out,
            lab.publisher.scratch.path(&format!("{name}-forgery")),
        );
        change(&forgery, &lab.publisher.keys);
        install(&forgery.directory, &source);
        (agent, says)
    };
    for (agent, says) in cases.map(start) {
        lab.check_refusal(&agent, says);
    }
}

/// Nix would leave an agent whose cache-info names another store dir than its own.
#[test]
fn a_release_for_another_store_dir_is_left_out() {
    let Some(lab) = Lab::new("a_release_for_another_store_dir_is_left_out") else {
        return;
    };
    let forgery = Forgery::of(&lab.other.out, lab.publisher.scratch.path("forgery"));
    let header = replaced(&forgery.header(), b"10:/nix/store", b"10:/gnu/store");
    forgery.sign(&header, &lab.publisher.keys.channel_secret);
    let agent = lab.publisher.agent("agent");
    let directory = forgery.directory.to_str().unwrap();
    let agent = agent.channel("other", &lab.publisher.keys.channel, directory);
    let agent = Node::start(&agent.follow(&lab.own));
    let info = get(agent.shim, "/nix-cache-info");
    assert!(
        info.text().contains("StoreDir: /nix/store\n"),
        "{}",
        info.text()
    );
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.inner().narinfo()).status,
        200
    );
    assert_eq!(
        get(agent.shim, &lab.publisher.closure.top().narinfo()).status,
        404
    );
    let errors = agent.status()["errors"].to_string();
    assert!(errors.contains("/gnu/store"), "{errors}");
}

/// The channel's own key has signed the pointer, and the manifest that it leads to can be had.
#[test]
fn a_pointer_that_leads_to_anothers_release_is_refused() {
    let Some(lab) = Lab::new("a_pointer_that_leads_to_anothers_release_is_refused") else {
        return;
    };
    let seedbox = lab.publisher.seedbox("seedbox");
    let seedbox = Node::start(&seedbox.follow(&lab.own).follow(&lab.other));
    let link = lab.own.text("link");
    for (name, pointer, says) in [
        (
            "other",
            lab.own.pointer_to(2, &lab.other),
            ["of channel other", "lab was asked for"],
        ),
        (
            "old",
            lab.own.pointer_to(7, &lab.own),
            ["the pointer names sequence 7", "has 1"],
        ),
    ] {
        let agent = Node::start(&lab.publisher.agent(name).link(link).peer(seedbox.peer));
        agent.wait_for_channel();
        let mut liar = TopicPeer::connect(agent.peer, topic(&lab.own), 1);
        liar.say_hello(0, &[]);
        // What the other channel's key has signed for its own topic counts there only.
        let foreign = std::fs::read(lab.other.out.join("pointer")).unwrap();
        liar.say_pointer(&foreign);
        liar.say_pointer(&pointer);
        lab.check_refusal(&agent, &says);
    }
}

fn replaced(bytes: &[u8], old: &[u8], new: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), bytes);
    while let Some(at) = rest.windows(old.len()).position(|window| window == old) {
        out.extend([&rest[..at], new].concat());
        rest = &rest[at + old.len()..];
    }
    [out, rest.to_vec()].concat()
}
