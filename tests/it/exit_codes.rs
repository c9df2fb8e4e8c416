//! What every command ends with: 0 done, 1 failed, 2 usage or configuration, 3 verification refused, 4 not found
//! anywhere, 5 agent not reachable; and that it says why.

use std::fs;

use crate::lab::{
    Closure, HttpServer, Keys, Need, Nix, Node, NodeConfig, Publication, Release, Scratch, narswarm,
};

const KEY: &str = "lab-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

fn config(scratch: &Scratch, text: &str) -> String {
    let file = scratch.path("agent.toml");
    fs::write(
        &file,
        format!("state = \"{}\"\n{text}", scratch.path("state").display()),
    )
    .unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn help_and_version_are_no_failures() {
    let help = narswarm(["channel", "update", "--help"]).success();
    assert!(help.stdout.contains("Example: "), "{}", help.stdout);
    narswarm(["--help"]).success();
    narswarm(["--version"]).success();
}

#[test]
fn wrong_usage_is_2() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let out = out.to_str().unwrap();
    let cases: &[&[&str]] = &[
        &[],
        &["nonsense"],
        &["status", "--nonsense"],
        &["agent", "--nonsense"],
        &[
            "publish",
            "--channel",
            "a",
            "--release",
            "b",
            "--secret-key",
            "/nowhere",
            "--out",
            out,
        ],
        &["keygen", "bad name", "--secret", out, "--public", out],
        &["payload", "/nowhere"],
        &["torrent", "/nix/store/nonsense"],
        &[
            "fetch",
            "nonsense",
            "--to",
            out,
            "--config",
            "/nowhere/agent.toml",
        ],
        &["check-config", "/nowhere/agent.toml"],
        &["agent", "--config", "/nowhere/agent.toml"],
        &["seedbox", "--config", "/nowhere/seedbox.toml"],
    ];
    for arguments in cases {
        let outcome = narswarm(*arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {}", outcome.stderr);
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_bad_configuration_is_2_and_named() {
    let scratch = Scratch::new();
    let cases = [
        ("nonsense = 1", "nonsense"),
        ("[shim]\nport = 1", "port"),
        ("[swarm]\nshare = \"all\"", "swarm.share"),
        ("[swarm]\nupload_limit = \"2MB\"", "rate"),
        ("[swarm]\npeers = [\"example.org:1\"]", "swarm.peers"),
        ("[swarm]\nlisten = \"6881\"", "write IP:PORT"),
        (
            "[[upstream]]\nurl = \"example.org\"",
            "write http:// or https://",
        ),
        ("[swarm]\nnetworks = [\"10.0.0.0\"]", "swarm.networks"),
        ("[cache]\nsize = \"5 gigs\"", "size"),
        ("[store]\nuri = \"http://example.org\"", "store.uri"),
        ("trusted_keys = [\"nonsense\"]", "trusted_keys"),
        (
            "[[channel]]\nname = \"a b\"\nkey = \"x\"\nmanifest = \"/x\"",
            "channel.name",
        ),
        (
            "[[channel]]\nname = \"a\"\nkey = \"x\"\nmanifest = \"/x\"",
            "channel.key",
        ),
        ("[[upstream]]\nurl = \"ftp://example.org\"", "upstream.url"),
        (
            "[[upstream]]\nurl = \"https://example.org\"\nresolve = [\"nonsense\"]",
            "upstream.resolve",
        ),
        (
            "[[upstream]]\nurl = \"https://example.org\"\ntimeout = \"soon\"",
            "duration",
        ),
        ("not toml", "agent.toml"),
    ];
    for (text, word) in cases {
        let file = config(&scratch, text);
        let outcome = narswarm(["check-config", &file]);
        assert_eq!(outcome.code, 2, "{text}: {}", outcome.stderr);
        assert!(
            outcome.stderr.contains(word),
            "no '{word}': {}",
            outcome.stderr
        );
        // The agent says the same.
        let started = narswarm(["agent", "--config", &file]);
        assert_eq!(started.code, 2, "{text}");
        assert!(
            started.stderr.contains(word),
            "no '{word}': {}",
            started.stderr
        );
    }
}

/// What other programs write, each key with its default.
#[test]
fn the_whole_configuration_is_understood() {
    let scratch = Scratch::new();
    let text = format!(
        "trusted_keys = [\"{KEY}\"]
        [shim]\nlisten = \"127.0.0.1:8642\"\nexpressions = false
        [swarm]\nlisten = \"[::]:6881\"\nshare = \"lan\"\nnetworks = []\nupload_limit = \"2MB/s\"\npeers = []
        trackers = []\ndht = true\nbootstrap = []\nlsd = true\nupnp = false
        [store]\nuri = \"local\"
        [cache]\nsize = \"5GB\"
        [[channel]]\nname = \"nixos-unstable\"\nkey = \"{KEY}\"\nmanifest = \"/srv/channel\"\nkeep_releases = 3
        [[upstream]]\nurl = \"https://cache.nixos.org\"\nkeys = [\"{KEY}\"]\nresolve = []\ntimeout = \"5s\""
    );
    narswarm(["check-config", &config(&scratch, &text)]).success();
    let link =
        "magnet:?xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e&s=6e";
    let linked = |more: &str| format!("[[channel]]\n{more}\nlink = \"{link}\"");
    narswarm(["check-config", &config(&scratch, &linked(""))]).success();
    narswarm(["check-config", &config(&scratch, &linked("name = \"n\""))]).success();
    // What is written beside the link must be what stands in it.
    for more in [
        "name = \"other\"",
        &format!("key = \"{KEY}\""),
        "manifest = \"/srv/channel\"",
    ] {
        narswarm(["check-config", &config(&scratch, &linked(more))])
            .exits(2)
            .says(&["channel.link"]);
    }
}

#[test]
fn keys_are_never_overwritten() {
    let scratch = Scratch::new();
    let (secret, public) = (scratch.path("secret"), scratch.path("public"));
    let arguments = [
        "keygen",
        "k-1",
        "--secret",
        secret.to_str().unwrap(),
        "--public",
        public.to_str().unwrap(),
    ];
    narswarm(arguments).success();
    let before = fs::read(&secret).unwrap();
    narswarm(arguments)
        .exits(1)
        .says(&["exists", "never overwritten"]);
    assert_eq!(fs::read(&secret).unwrap(), before);
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&secret).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn without_an_agent_status_is_5() {
    let scratch = Scratch::new();
    let state = scratch.directory("state");
    let state = state.to_str().unwrap();
    narswarm(["status", "--state", state])
        .exits(5)
        .says(&["run.json"]);
    narswarm(["status", "--json", "--state", "/nowhere"]).exits(5);
    let file = config(&scratch, "");
    narswarm(["status", "--config", &file])
        .exits(5)
        .says(&["systemctl start"]);
    narswarm(["share", "off", "--state", "/nowhere"])
        .exits(5)
        .says(&["no agent has run here yet"]);
}

#[test]
fn what_nobody_has_is_4() {
    if !Need::all("what_nobody_has_is_4", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let absent = "/nix/store/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz-absent";
    let (root, out) = (closure.root.to_str().unwrap(), scratch.path("out"));
    let out = out.to_str().unwrap();
    narswarm(["payload", absent, "--store", root, "-o", out])
        .exits(4)
        .says(&["absent"]);
    narswarm(["torrent", &format!("{root}{absent}"), "-o", out])
        .exits(4)
        .says(&["absent"]);
    let agent =
        NodeConfig::agent(scratch.path("agent"), &scratch.path("store")).follow(&publication);
    let config = agent.trust(&publication.keys.narinfo).write();
    let config = config.to_str().unwrap();
    narswarm(["fetch", absent, "--to", out, "--config", config])
        .exits(4)
        .says(&[absent]);
    // Listed, but nobody seeds it.
    let listed = narswarm(["fetch", &closure.top, "--to", out, "--config", config]).exits(4);
    assert!(listed.stderr.contains("nobody"), "{}", listed.stderr);
    // In no store, and in no cache.
    let cache = closure.copy_to_cache(
        &nix,
        &publication.keys,
        "compression=none",
        &scratch.path("cache"),
    );
    let server = HttpServer::directory(&cache);
    let paths = vec![absent.to_owned()];
    for from in [format!("file://{}", cache.display()), server.url()] {
        let release = Release {
            from,
            paths: paths.clone(),
            ..Release::of(closure, &publication.keys, scratch.path("new"))
        };
        release.run().exits(4).says(&["absent"]);
    }
    let release = Release {
        paths,
        ..Release::of(closure, &publication.keys, scratch.path("new"))
    };
    release.run().exits(4).says(&["absent"]);
}

/// A cache whose key is not trusted may have it, but `fetch` does not take it.
#[test]
fn what_nobody_trusted_has_signed_is_3() {
    if !Need::all("what_nobody_trusted_has_signed_is_3", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let stranger = Keys::make(&nix, &scratch.path("stranger"));
    let cache = closure.copy_to_cache(&nix, &keys, "compression=none", &scratch.path("cache"));
    let upstream = HttpServer::directory(&cache);
    let out = scratch.path("out");
    let agent = |name: &str, key: &str| {
        let agent = NodeConfig::agent(scratch.path(name), &scratch.path("store"));
        agent
            .upstream(&upstream.url(), key)
            .write()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let fetch = |config: &str| {
        narswarm([
            "fetch",
            &closure.top,
            "--to",
            out.to_str().unwrap(),
            "--unpack",
            "--config",
            config,
        ])
    };
    fetch(&agent("wrong", &stranger.narinfo))
        .exits(3)
        .says(&["trusted"]);
    assert!(!out.join(closure.top().base_name()).exists());
    fetch(&agent("right", &keys.narinfo)).success();
    assert!(
        out.join(closure.top().base_name())
            .join("references")
            .is_file()
    );
}

/// `fetch` through an agent that runs, and through one of its own; raw and unpacked.
#[test]
fn fetch_writes_what_was_published() {
    if !Need::all("fetch_writes_what_was_published", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let publication = Publication::of(&nix, closure, scratch.root());
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication));
    seedbox.wait_for_offer(closure.paths.len());
    let agent =
        NodeConfig::agent(scratch.path("agent"), &scratch.path("store")).follow(&publication);
    let agent = agent.trust(&publication.keys.narinfo).peer(seedbox.peer);
    let config = agent.write();
    let name = closure.top().base_name();
    let check = |to: &str| {
        let to = scratch.path(to);
        let fetch = |more: &[&str]| {
            let arguments = [
                "fetch",
                &closure.top,
                "--to",
                to.to_str().unwrap(),
                "--config",
                config.to_str().unwrap(),
            ];
            narswarm([&arguments[..], more].concat()).success();
        };
        fetch(&[]);
        let nar = fs::read(to.join(format!("{name}.nar"))).unwrap();
        assert!(nar == nix.dump(&closure.root, &closure.top));
        fetch(&["--unpack"]);
        let unpacked = nix.bytes("nix-store", &["--dump", to.join(name).to_str().unwrap()]);
        assert!(unpacked == nar);
    };
    check("alone");
    let running = Node::start(&agent);
    check("through-agent");
    assert!(running.bytes("swarm") + running.bytes("store") > 0);
}
