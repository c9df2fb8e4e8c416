//! Release files reach Nix's channels and flakes through the shim, where the owner wants it, and only as published.

use std::{fs, path::PathBuf, process::Command, time::Duration};

use crate::lab::{
    Closure, Keys, Need, Nix, Node, NodeConfig, Outcome, PROGRAM, Publication, Release, Scratch,
    get, head, request, wait_for,
};

const NAME: &str = "nixexprs.tar.xz";

struct Lab {
    nix: Nix,
    scratch: Scratch,
    release: Release,
}

impl Lab {
    fn new() -> Self {
        let (nix, scratch) = (Nix::installed(), Scratch::new());
        let keys = Keys::make(&nix, &scratch.path("keys"));
        let release = Release {
            files: vec![expressions(&scratch, 1)],
            ..Release::of(Closure::small(), &keys, scratch.path("channel"))
        };
        Self {
            nix,
            scratch,
            release,
        }
    }

    /// A box that has the release files.
    fn seedbox(&self, publication: &Publication) -> Node {
        let state = self.scratch.path("seedbox");
        Node::start(&NodeConfig::store_seedbox(state, &Closure::small().root).follow(publication))
    }

    /// An agent that knows this release's magnet link, and nobody but the box.
    fn agent(&self, publication: &Publication, seedbox: &Node) -> NodeConfig {
        NodeConfig::agent(self.scratch.path("agent"), &self.scratch.path("store"))
            .follow_at(publication, publication.text("magnet"))
            .trust(&publication.keys.narinfo)
            .peer(seedbox.peer)
    }

    /// Where `nix-channel` installs.
    fn profile(&self) -> PathBuf {
        // It asks the system who it is, not USER.
        let mut id = Command::new("id");
        id.arg("-un");
        let user = Outcome::of(id).success().stdout;
        let profiles = self.scratch.path("nix/state/profiles/per-user");
        profiles.join(user.trim()).join("channels")
    }

    /// What an expression evaluates to.
    fn evaluate(&self, expression: &str) -> String {
        let arguments = ["--eval", "-E", expression];
        let outcome = self.nix("nix-instantiate", &arguments).success();
        outcome.stdout.trim().to_owned()
    }

    /// One of Nix's programs with a store and a user's home of this test: `nix-channel` cannot work on a chroot store.
    fn nix(&self, program: &str, arguments: &[&str]) -> Outcome {
        let mut command = Command::new(program);
        self.nix.prepare(&mut command);
        let home = self.scratch.directory("home");
        command
            .args(arguments)
            .env("HOME", &home)
            .env_remove("NIX_REMOTE")
            .env("NIX_PATH", self.profile())
            .env("NIX_STORE_DIR", self.scratch.path("nix/store"))
            .env("NIX_LOG_DIR", self.scratch.path("nix/log"))
            .env("NIX_STATE_DIR", self.scratch.path("nix/state"));
        Outcome::of(command)
    }
}

/// A tarball as a channel has it; it evaluates to `number`.
fn expressions(scratch: &Scratch, number: u32) -> PathBuf {
    let directory = scratch.directory(&format!("expressions-{number}"));
    let content = directory.join("nixexprs");
    fs::create_dir_all(&content).unwrap();
    fs::write(content.join("default.nix"), format!("{number}\n")).unwrap();
    let tarball = directory.join(NAME);
    let mut tar = Command::new("tar");
    tar.arg("-cJf").arg(&tarball).arg("-C").arg(&directory);
    tar.arg("nixexprs");
    Outcome::of(tar).success();
    tarball
}

fn wait_for_file(agent: &Node) {
    let path = format!("/channels/lab/{NAME}");
    wait_for("release file", Duration::from_secs(30), || {
        (get(agent.shim, &path).status == 200).then_some(())
    });
}

#[test]
fn they_are_served_as_published_or_not_at_all() {
    if !Need::all("they_are_served_as_published_or_not_at_all", &[Need::NIX]) {
        return;
    }
    let lab = Lab::new();
    let publication = lab.release.publish();
    let published = fs::read(&lab.release.files[0]).unwrap();
    let path = format!("/channels/lab/{NAME}");

    let seedbox = lab.seedbox(&publication);
    let agent = Node::start(&lab.agent(&publication, &seedbox));
    agent.wait_for_channel();
    for path in [&path, "/channels/lab"] {
        assert_eq!(get(agent.shim, path).status, 404, "{path}");
    }
    agent.stop();

    let agent = Node::start(&lab.agent(&publication, &seedbox).expressions());
    wait_for_file(&agent);
    let answer = get(agent.shim, &path);
    assert!(answer.body == published);
    let tag = answer.header("etag").unwrap().to_owned();
    let link = answer.header("link").unwrap();
    let (link, relation) = link.split_once(';').unwrap();
    assert_eq!(relation.trim(), "rel=\"immutable\"");
    let (host, immutable) = link
        .trim_matches(['<', '>'])
        .strip_prefix("http://")
        .unwrap()
        .split_once('/')
        .unwrap();
    assert_eq!(host, agent.shim.to_string());
    let immutable = format!("/{immutable}");
    assert!(get(agent.shim, &immutable).body == published);
    let again = request(agent.shim, "GET", &path, &[("If-None-Match", &tag)]);
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(head(agent.shim, &path).status, 200);
    let list = get(agent.shim, "/channels/lab");
    assert_eq!(list.body, format!("{NAME}\n").as_bytes());
    for absent in [
        "/channels/other",
        "/channels/lab/other",
        "/channels/lab/..%2fsequence",
        "/channels/other/nixexprs.tar.xz",
        &immutable.replace("immutable/", "immutable/0"),
    ] {
        assert_eq!(get(agent.shim, absent).status, 404, "{absent}");
    }

    // The next release: the mutable name follows, the immutable one stays. What is kept is checked at each start.
    let release = Release {
        files: vec![expressions(&lab.scratch, 2)],
        name: "r2".to_owned(),
        ..lab.release.clone()
    };
    agent.stop();
    let agent = Node::start(&lab.agent(&release.publish(), &seedbox).expressions());
    agent.wait("second release", |status| {
        status["channels"][0]["sequence"] == 2
    });
    let second = fs::read(&release.files[0]).unwrap();
    wait_for("new file", Duration::from_secs(30), || {
        (get(agent.shim, &path).body == second).then_some(())
    });
    assert!(get(agent.shim, &immutable).body == published);
}

#[test]
fn what_has_come_is_served_while_another_is_missing() {
    const MISSING: &str = "programs.txt";
    let test = "what_has_come_is_served_while_another_is_missing";
    if !Need::all(test, &[Need::NIX]) {
        return;
    }
    let mut lab = Lab::new();
    let missing = lab.scratch.path(MISSING);
    fs::write(&missing, "hello: bash").unwrap();
    lab.release.files.insert(0, missing);
    let publication = lab.release.publish();
    fs::remove_file(publication.out.join("files").join(MISSING)).unwrap();
    let config = NodeConfig::agent(lab.scratch.path("agent"), &lab.scratch.path("store"));
    let agent = Node::start(&config.follow(&publication).expressions());
    wait_for_file(&agent);
    agent.wait("what is missing", |status| {
        let error = status["channels"][0]["last_error"].as_str();
        error.is_some_and(|error| error.contains(MISSING))
    });
    let missing = format!("/channels/lab/{MISSING}");
    assert_eq!(get(agent.shim, &missing).status, 404);
}

#[test]
fn nix_channel_and_a_flake_take_them() {
    if !Need::all("nix_channel_and_a_flake_take_them", &[Need::NIX]) {
        return;
    }
    let lab = Lab::new();
    let publication = lab.release.publish();
    let seedbox = lab.seedbox(&publication);
    let agent = Node::start(&lab.agent(&publication, &seedbox).expressions());
    wait_for_file(&agent);
    let url = format!("http://{}/channels/lab", agent.shim);

    lab.nix("nix-channel", &["--add", &url, "lab"]).success();
    lab.nix("nix-channel", &["--update"]).success();
    assert_eq!(lab.evaluate("import <lab>"), "1");

    // A flake locks it, and evaluates to the same.
    let flake = lab.scratch.directory("flake");
    let inputs = format!("inputs.lab = {{ url = \"{url}/{NAME}\"; flake = false; }};");
    let text = format!("{{ {inputs} outputs = {{ self, lab }}: {{ value = import lab; }}; }}");
    fs::write(flake.join("flake.nix"), text).unwrap();
    let value = format!("path:{}#value", flake.display());
    let found = lab.nix("nix", &["eval", &value]).success();
    assert_eq!(found.stdout.trim(), "1");
    let lock = fs::read_to_string(flake.join("flake.lock")).unwrap();
    assert!(lock.contains("narHash"), "{lock}");

    // The same without the shim: it has stopped, and whoever takes its port cannot matter.
    let config = agent.state().with_extension("toml");
    agent.stop();
    let update = |more: &[&str]| {
        let command = ["channel", "update", "--config", config.to_str().unwrap()];
        lab.nix(PROGRAM, &[&command, more].concat())
    };
    let profile = lab.profile();
    update(&["--name", "mine", "--profile", profile.to_str().unwrap()]).success();
    assert_eq!(lab.evaluate("import <mine>"), "1");
    let printed = update(&["--print"]).success().stdout;
    let file = PathBuf::from(printed.trim());
    assert!(fs::read(&file).unwrap() == fs::read(&lab.release.files[0]).unwrap());
    // What was changed on disk is not taken; the agent's next start mends it.
    fs::write(&file, "other").unwrap();
    update(&["--print"]).exits(3).says(&[NAME]);
    let _agent = Node::start(&lab.agent(&publication, &seedbox).expressions());
    wait_for("the right file again", Duration::from_secs(30), || {
        let right = fs::read(&lab.release.files[0]).unwrap();
        (fs::read(&file).unwrap() == right).then_some(())
    });
    update(&["--print"]).success();
}
