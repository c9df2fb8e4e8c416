//! agent.toml and seedbox.toml: the options leaf by leaf, read by the program itself.

use std::fs;
use std::process::Command;

use serde_json::json;

use crate::evaluation::Evaluation;
use crate::{CACHE_KEY, NARSWARM, STUB};

#[test]
fn the_program_reads_what_the_module_writes() {
    /// What `check-config` says of a role's file.
    fn check(evaluation: &Evaluation, case: &str, role: &str) -> (Option<i32>, String) {
        let settings = &evaluation.case(case)["settings"][role];
        let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        fs::write(file.path(), toml::to_string(settings).unwrap()).unwrap();
        let mut command = Command::new(NARSWARM);
        let command = command
            .env_remove("STATE_DIRECTORY")
            .args(["check-config", "--role", role])
            .arg(file.path());
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    }
    let Some(evaluation) = Evaluation::get("the_program_reads_what_the_module_writes") else {
        return;
    };
    for (case, role, says) in [
        (
            "agent",
            "agent",
            "1 channel, 1 upstream, share = public, state in /var/lib/narswarm\n",
        ),
        ("agentAlone", "agent", "share = lan"),
        ("agentByLink", "agent", "2 channels"),
        ("agentReloaded", "agent", "2 channels"),
        ("leaves", "agent", "share = public"),
        ("noUpstreams", "agent", "0 upstreams"),
        ("otherCaches", "agent", "3 upstreams"),
        ("all", "agent", "share = lan"),
        (
            "all",
            "seedbox",
            "share = public, state in /var/lib/narswarm-seedbox\n",
        ),
        ("seedbox", "seedbox", "1 channel,"),
        ("seedboxReadOnly", "seedbox", "1 channel,"),
        (
            "seedboxOfStore",
            "seedbox",
            "a good configuration of a seedbox",
        ),
    ] {
        let (code, text) = check(evaluation, case, role);
        assert!(
            code == Some(0) && text.contains(says),
            "{case}: {code:?} {text}"
        );
    }
    for (case, role, says) in [
        ("unknownKey", "agent", "uploadLimit"),
        ("badRate", "agent", "'fast' is not a rate"),
        ("badSeedbox", "seedbox", "elsewhere"),
        ("agentsSeedbox", "seedbox", "unknown field `cache`"),
    ] {
        let (code, text) = check(evaluation, case, role);
        assert!(
            code == Some(2) && text.contains(says),
            "{case}: {code:?} {text}"
        );
    }
    // It is asked when the system is built, and its refusal ends the build.
    let checks = &evaluation.case("all")["checks"];
    for role in ["agent", "seedbox"] {
        let script = checks[format!("narswarm/{role}.toml")].as_str().unwrap();
        assert!(
            script.starts_with(&format!("{STUB} check-config --role {role} /nix/store/")),
            "{script}"
        );
    }
}

#[test]
fn settings_are_the_options_leaf_by_leaf() {
    let Some(evaluation) = Evaluation::get("settings_are_the_options_leaf_by_leaf") else {
        return;
    };
    let leaves = &evaluation.case("leaves")["settings"]["agent"];
    assert_eq!(
        leaves["swarm"],
        json!({
            "listen": "0.0.0.0:7000", "share": "public", "upload_limit": "9MB/s", "dht": false, "peers": ["192.0.2.7:6881"],
        })
    );
    assert_eq!(leaves["cache"], json!({ "size": "20GB" }));

    let link = "magnet:?xs=urn:btpk:d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a&s=74657374";
    let other = "magnet:?xs=urn:btpk:3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c&s=74657374";
    assert_eq!(
        evaluation.case("agentByLink")["settings"]["agent"]["channel"],
        json!([{ "link": link }, { "link": other, "keep_releases": 5 }])
    );
    assert_eq!(
        evaluation.case("netrc")["settings"]["agent"]["netrc"],
        "/run/credentials/narswarm-agent.service/netrc"
    );
    let agent = &evaluation.case("agent")["settings"]["agent"];
    assert_eq!(agent["trusted_keys"], json!([CACHE_KEY]));
    assert_eq!(
        agent["upstream"],
        json!([{ "url": "https://cache.nixos.org", "keys": [CACHE_KEY] }])
    );
    assert_eq!(
        evaluation.case("otherCaches")["settings"]["agent"]["upstream"][1],
        json!({
            "url": "https://covered.example/", "keys": ["covered-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="],
            "resolve": ["192.0.2.9"], "timeout": "3s",
        })
    );
    assert_eq!(
        evaluation.case("seedbox")["settings"]["seedbox"]["hold"],
        json!({ "location": "/mnt/nixpkgsDisk", "amount": "20%" })
    );
}
