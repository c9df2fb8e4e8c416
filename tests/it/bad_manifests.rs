//! What does not verify is refused, says why, and takes nothing away: the last good release stays.

use std::{fs, path::Path};

use crate::lab::{
    Closure, Forgery, Keys, Need, Nix, Node, NodeConfig, Publication, Release, Scratch, bytes_at,
    get, install, with_number,
};

/// One kind of damage, done to the second release before the agent sees it.
struct Case {
    name: &'static str,
    damage: fn(&Forgery, &Keys, &Keys),
    says: &'static [&'static str],
}

const CASES: [Case; 12] = [
    Case {
        name: "flipped-header",
        damage: |forgery, _, _| {
            let mut manifest = forgery.manifest();
            let middle = manifest.len() / 2;
            manifest[middle] ^= 1;
            forgery.set_manifest(&manifest);
        },
        says: &["the manifest is refused", "signature by lab-channel-1"],
    },
    Case {
        name: "key-of-the-same-name",
        damage: |forgery, _, stranger| forgery.sign(&forgery.header(), &stranger.channel_secret),
        says: &["signature by lab-channel-1", "only has the same name"],
    },
    Case {
        name: "unknown-key",
        damage: |forgery, _, stranger| {
            let secret = fs::read_to_string(&stranger.channel_secret).unwrap();
            let renamed = forgery.directory.join("renamed");
            fs::write(&renamed, secret.replace("lab-channel-1", "stranger-1")).unwrap();
            forgery.sign(&forgery.header(), &renamed);
        },
        says: &["signed by stranger-1", "key is lab-channel-1"],
    },
    Case {
        name: "cut-manifest",
        damage: |forgery, _, _| {
            let manifest = forgery.manifest();
            forgery.set_manifest(&manifest[..manifest.len() / 2]);
        },
        says: &["reading the manifest file"],
    },
    Case {
        name: "empty-manifest",
        damage: |forgery, _, _| forgery.set_manifest(b""),
        says: &["reading the manifest file"],
    },
    Case {
        name: "huge-manifest",
        damage: |forgery, _, _| forgery.set_manifest(&vec![b'd'; 20_000_000]),
        says: &["manifest", "is larger than"],
    },
    Case {
        name: "cut-layer",
        damage: |forgery, _, _| {
            let layer = fs::read(forgery.last_layer()).unwrap();
            fs::write(forgery.last_layer(), &layer[..layer.len() - 1]).unwrap();
        },
        says: &["layer 2 is refused", "bytes"],
    },
    Case {
        name: "flipped-layer",
        damage: |forgery, _, _| {
            let mut layer = fs::read(forgery.last_layer()).unwrap();
            let middle = layer.len() / 2;
            layer[middle] ^= 1;
            fs::write(forgery.last_layer(), layer).unwrap();
        },
        says: &["layer 2 is refused", "SHA-256"],
    },
    Case {
        name: "lost-layer",
        damage: |forgery, _, _| fs::remove_file(forgery.last_layer()).unwrap(),
        says: &["cannot read", "layers/"],
    },
    // From here on the channel's own key has signed it.
    Case {
        name: "absurd-layer-length",
        damage: |forgery, keys, _| {
            let header = with_number(&forgery.header(), "6:length", 1 << 60);
            forgery.sign(&header, &keys.channel_secret);
        },
        says: &["the manifest is refused", "is larger than 268435456"],
    },
    Case {
        name: "absurd-row-count",
        damage: |forgery, keys, _| {
            let header = with_number(&forgery.header(), "4:rows", 4_000_000_000);
            forgery.sign(&header, &keys.channel_secret);
        },
        says: &["the manifest is refused", "is larger than 1048576"],
    },
    Case {
        name: "absurd-nar-size",
        damage: |forgery, keys, _| {
            let mut layer = fs::read(forgery.last_layer()).unwrap();
            let (start, range) = bytes_at(&layer, b"9:nar sizes");
            let mut sizes = layer[range.clone()].to_vec();
            // The first varint: 2^63.
            let end = sizes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            sizes.splice(..end, [[0x80; 9].as_slice(), &[1]].concat());
            let key = start - format!("{}:", range.len()).len();
            let column = [format!("{}:", sizes.len()).as_bytes(), &sizes].concat();
            layer.splice(key..range.end, column);
            forgery.replace_last_layer(&layer, &keys.channel_secret);
        },
        says: &["layer 2 is refused", "nar sizes", "too large"],
    },
];

/// An agent that has accepted the first release, and where it looks for the next.
struct Follower {
    case: &'static Case,
    source: std::path::PathBuf,
    agent: Node,
}

#[test]
fn the_last_good_release_stays() {
    if !Need::all("the_last_good_release_stays", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let (first, second, keys) = releases(&nix, &scratch, closure);
    let stranger = Keys::make(&nix, &scratch.path("stranger"));
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&first));
    seedbox.wait_for_offer(first.number("paths") as usize);
    let old = closure.inner();

    let follow = |case: &'static Case| {
        let source = scratch.path(&format!("{}-source", case.name));
        install(&first.out, &source);
        let agent = NodeConfig::agent(scratch.path(case.name), &scratch.path("store"))
            .channel("lab", &keys.channel, source.to_str().unwrap())
            .trust(&keys.narinfo)
            .peer(seedbox.peer);
        Follower {
            case,
            source,
            agent: Node::start(&agent),
        }
    };
    let followers: Vec<Follower> = CASES.iter().map(follow).collect();
    for Follower {
        case,
        source,
        agent,
    } in &followers
    {
        let status = agent.status();
        assert_eq!(
            status["channels"][0]["state"], "ok",
            "{}: {status}",
            case.name
        );
        let forgery = Forgery::of(&second.out, scratch.path(&format!("{}-forgery", case.name)));
        (case.damage)(&forgery, &keys, &stranger);
        install(&forgery.directory, source);
        if case.name == "lost-layer" {
            // Nothing was there before either.
            assert_eq!(fs::read_dir(source.join("layers")).unwrap().count(), 1);
        }
    }
    for Follower { case, agent, .. } in &followers {
        let refused = |status: &serde_json::Value| status["channels"][0]["last_error"].is_string();
        let status = agent.wait(&format!("refusal of {}", case.name), refused);
        let channel = &status["channels"][0];
        let error = channel["last_error"].as_str().unwrap();
        for word in case.says {
            assert!(
                error.contains(word),
                "{}: no '{word}' in: {error}",
                case.name
            );
        }
        assert!(error.len() < 1000, "{}: {error}", case.name);
        let errors = status["errors"].as_array().unwrap();
        assert!(
            errors
                .iter()
                .any(|told| told.as_str().unwrap().contains(error)),
            "{status}"
        );
        assert_eq!(
            (&channel["sequence"], &channel["state"]),
            (&1.into(), &"ok".into())
        );
        assert_eq!(channel["paths"], first.number("paths"));
        assert_eq!(get(agent.shim, &old.narinfo()).status, 200, "{}", case.name);
        assert_eq!(
            get(agent.shim, &old.nar()).body.len() as u64,
            old.nar_size,
            "{}",
            case.name
        );
        assert_eq!(
            get(agent.shim, &closure.top().narinfo()).status,
            404,
            "{}",
            case.name
        );
    }
    // What the publisher has repaired is accepted.
    for Follower { source, .. } in &followers {
        install(&second.out, source);
    }
    for Follower { case, agent, .. } in &followers {
        let what = format!("second release after {}", case.name);
        let status = agent.wait(&what, |status| status["channels"][0]["sequence"] == 2);
        assert!(
            status["channels"][0]["last_error"].is_null(),
            "{}: {status}",
            case.name
        );
        assert_eq!(
            get(agent.shim, &closure.top().narinfo()).status,
            200,
            "{}",
            case.name
        );
    }
    // An old release again is no way back, and another channel is not this one.
    install(&first.out, &followers[0].source);
    let other = Release {
        channel: "other".to_owned(),
        ..Release::of(closure, &keys, scratch.path("other"))
    };
    install(&other.publish().out, &followers[1].source);
    for (follower, says) in [
        (&followers[0], "sequence 1, but 2 was seen"),
        (&followers[1], "of channel other"),
    ] {
        let error = |status: &serde_json::Value| {
            status["channels"][0]["last_error"]
                .as_str()
                .map(str::to_owned)
        };
        let status = follower.agent.wait(says, |status| error(status).is_some());
        assert!(error(&status).unwrap().contains(says), "{status}");
        assert_eq!(status["channels"][0]["sequence"], 2);
    }
}

/// A release without the top path, and its successor with it.
fn releases(nix: &Nix, scratch: &Scratch, closure: &Closure) -> (Publication, Publication, Keys) {
    let keys = Keys::make(nix, &scratch.path("keys"));
    let first = Release {
        paths: vec![closure.inner().store_path.clone()],
        ..Release::of(closure, &keys, scratch.path("first"))
    };
    let second = scratch.path("second");
    let first = first.publish();
    copy(&first.out, &second);
    let second = Release {
        name: "r2".to_owned(),
        ..Release::of(closure, &keys, second)
    }
    .publish();
    assert_eq!(
        (first.number("sequence"), second.number("sequence")),
        (1, 2)
    );
    assert!(second.number("new_paths") < second.number("paths"));
    (first, second, keys)
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}

/// A publisher that finds a predecessor that is not its own stops, with the exit code of a refusal.
#[test]
fn publish_refuses_a_predecessor_that_does_not_verify() {
    if !Need::all(
        "publish_refuses_a_predecessor_that_does_not_verify",
        &[Need::NIX],
    ) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let release = Release::of(closure, &publication.keys, publication.out.clone());
    let stranger = Keys::make(&nix, &scratch.path("stranger"));
    let before = fs::read(publication.out.join("manifest")).unwrap();
    Release {
        keys: stranger,
        ..release.clone()
    }
    .run()
    .exits(3)
    .says(&["signature by lab-channel-1"]);
    Release {
        channel: "other".to_owned(),
        ..release.clone()
    }
    .run()
    .exits(3)
    .says(&["channel lab"]);
    assert_eq!(fs::read(publication.out.join("manifest")).unwrap(), before);
    let forgery = Forgery {
        directory: publication.out.clone(),
    };
    let layer = forgery.last_layer();
    let bytes = fs::read(&layer).unwrap();
    fs::write(&layer, &bytes[..100]).unwrap();
    release.run().exits(3).says(&["layer 1", "bytes"]);
    fs::write(&layer, bytes).unwrap();
    forgery.set_manifest(&before[..before.len() / 2]);
    release.run().exits(3).says(&["manifest"]);
}
