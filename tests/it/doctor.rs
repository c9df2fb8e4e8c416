//! `narswarm doctor` tells what works from here in one page, and what to do about the rest.

use std::{fs, process::Command};

use serde_json::Value;

use crate::lab::{Closure, Need, Nix, Node, NodeConfig, Outcome, PROGRAM, Publication, Scratch};

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
    assert!(
        outcome.stdout.contains("systemctl start"),
        "{}",
        outcome.stdout
    );

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
        10,
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
