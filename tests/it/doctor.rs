//! `narswarm doctor` tells what works from here in one page, and what to do about the rest.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

use serde_json::Value;

use crate::lab::{
    Closure, Hosts, Need, Nix, Node, NodeConfig, Outcome, PROGRAM, Publication, Scratch,
};

struct Lab {
    scratch: Scratch,
    config: NodeConfig,
}

impl Lab {
    fn doctor(&self, nix_conf: &str, arguments: &[&str]) -> Outcome {
        let directory = self.scratch.directory("nix-conf");
        fs::write(directory.join("nix.conf"), nix_conf).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("doctor").args(arguments);
        command.arg("--config").arg(self.config.file());
        command.env("NIX_CONF_DIR", directory);
        Outcome::of(command)
    }
}

fn finding<'a>(page: &'a Value, name: &str) -> &'a Value {
    let findings = page["findings"].as_array().unwrap();
    let found = findings.iter().find(|finding| finding["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {page}"))
}

#[test]
fn the_page_is_complete_and_its_exit_code_says_whether_all_is_well() {
    let name = "the_page_is_complete_and_its_exit_code_says_whether_all_is_well";
    if !Need::all(name, &[Need::NIX]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let publication = Publication::of(&nix, Closure::small(), scratch.root());
    let config = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo);
    let lab = Lab { scratch, config };
    lab.config.write();

    // Nothing runs.
    let outcome = lab.doctor("", &[]).exits(1);
    for says in ["nothing runs here", "systemctl start", "is free"] {
        assert!(outcome.stdout.contains(says), "{}", outcome.stdout);
    }

    let agent = Node::start(&lab.config);
    agent.wait_for_channel();
    // The configuration says port 0; a machine has a real one.
    let only = "substituters = http://127.0.0.1:0\n";
    let page = lab.doctor(only, &["--json"]).success().json();
    assert_eq!(page["ok"], true);
    for (name, state) in [
        ("agent", "ok"),
        ("channel", "ok"),
        ("clock", "ok"),
        ("store", "warn"),
        ("nix.conf", "ok"),
        ("DNS", "-"),
        ("DHT", "-"),
        ("LSD", "-"),
        ("peers", "warn"),
        ("public port", "-"),
    ] {
        assert_eq!(finding(&page, name)["state"], state, "{name}: {page}");
    }
    let text = lab.doctor(only, &[]).success().stdout;
    assert_eq!(
        text.lines().filter(|line| !line.contains("->")).count(),
        11,
        "{text}"
    );

    // Findings with their remedies.
    for (nix_conf, state, says) in [
        ("", "fail", "not among the substituters"),
        (
            "substituters = http://127.0.0.1:0 https://cache.nixos.org # both\n",
            "warn",
            "1 other",
        ),
        (
            &format!(
                "{only}extra-trusted-public-keys = {}\n",
                publication.keys.channel
            ),
            "fail",
            "trusted-public-keys",
        ),
    ] {
        let outcome = lab.doctor(nix_conf, &["--json"]);
        assert_eq!(outcome.code, i32::from(state == "fail"), "{nix_conf}");
        let page = outcome.json();
        let finding = finding(&page, "nix.conf");
        assert_eq!(finding["state"], state, "{page}");
        assert!(finding["found"].as_str().unwrap().contains(says), "{page}");
        assert!(finding["remedy"].is_string(), "{page}");
    }
}

/// What a person has when nothing works yet: no network, no name, no store that may be read, a port that is taken.
#[test]
fn what_is_wrong_is_said_with_a_remedy() {
    let name = "what_is_wrong_is_said_with_a_remedy";
    let needs = [Need::Namespaces, Need::Program("setpriv")];
    if !Need::all(name, &needs) {
        return;
    }
    let scratch = Scratch::new();
    let database = scratch.directory("root/nix/var/nix/db");
    fs::set_permissions(&database, fs::Permissions::from_mode(0o700)).unwrap();
    let hosts = Hosts::new(1);
    hosts.run(1, "ip", &["link", "set", "eth0", "down"]);
    hosts.run(1, "ip", &["addr", "flush", "dev", "eth0"]);
    let other = NodeConfig::payload_seedbox(scratch.path("other"), &scratch.directory("empty"));
    let other = Node::start_in(&hosts.place(1), &other);
    let key = "lab-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    let config = NodeConfig::agent(scratch.path("agent"), &scratch.path("root"))
        .port(other.peer.port())
        .upstream("https://cache.example.org", key);
    config.write();
    fs::set_permissions(scratch.root(), fs::Permissions::from_mode(0o755)).unwrap();

    let mut doctor = hosts.place(1).command("setpriv");
    doctor.args(["--reuid=65534", "--clear-groups", PROGRAM]);
    doctor.args(["doctor", "--json", "--config"]);
    doctor
        .arg(config.file())
        .env("NIX_CONF_DIR", scratch.root());
    let page = Outcome::of(doctor).exits(1).json();
    for (name, state, says) in [
        ("agent", "fail", "nothing runs here"),
        ("peer port", "fail", "in use"),
        ("store", "fail", "Permission denied"),
        ("network", "warn", "loopback"),
        ("DNS", "warn", "cache.example.org"),
        ("upstream", "warn", "cache.example.org"),
    ] {
        let finding = finding(&page, name);
        assert_eq!(finding["state"], state, "{name}: {page}");
        let found = finding["found"].as_str().unwrap();
        assert!(found.contains(says), "{name}: {page}");
        assert!(finding["remedy"].is_string(), "{name}: {page}");
    }
}

/// It may be hundreds of megabytes, which only a person can tell to be of no use any more.
#[test]
fn what_a_channel_left_behind_is_named() {
    let name = "what_a_channel_left_behind_is_named";
    if !Need::all(name, &[Need::NIX]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let publication = Publication::of(&nix, Closure::small(), scratch.root());
    let bare = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let config = bare.clone().follow(&publication);
    let agent = Node::start(&config);
    agent.wait_for_channel();
    let left = |agent: &Node| {
        let page = agent.doctor();
        let findings = page["findings"].as_array().unwrap().iter();
        let left = findings.filter(|finding| finding["name"] == "left over");
        left.cloned().collect::<Vec<_>>()
    };
    assert_eq!(left(&agent), Vec::<Value>::new());
    // The file names it no more, but the agent has not been told.
    bare.write();
    assert_eq!(left(&agent), Vec::<Value>::new());
    agent.stop();

    let agent = Node::start(&bare);
    let found = left(&agent);
    let [shelf, pointers] = &found[..] else {
        panic!("{found:?}")
    };
    assert_eq!(shelf["state"], "warn");
    for (finding, directory) in [(shelf, "channels"), (pointers, "pointers")] {
        let mut inside = config.state.join(directory).read_dir().unwrap();
        let path = inside.next().unwrap().unwrap().path();
        let command = finding["remedy"].as_str().unwrap();
        let expected = format!("rm -r '{}'", path.display());
        assert!(command.starts_with(&expected), "{command}");
        // With what stands beside it: as a person copies it.
        let removed = Command::new("sh").args(["-c", command]).status();
        assert!(removed.unwrap().success());
    }
    assert_eq!(left(&agent), Vec::<Value>::new());
}
