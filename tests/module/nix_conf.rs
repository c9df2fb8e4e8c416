//! nix.conf and the firewall: what changes, and that nothing else does.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::CACHE_KEY;
use crate::evaluation::Evaluation;

#[test]
fn nix_conf_changes_in_its_lines_and_no_others() {
    fn case(evaluation: &Evaluation, case: &str, lines: &[&str]) {
        let nothing = evaluation.nix_conf("nothing");
        let changed = evaluation.nix_conf(case);
        let new: BTreeSet<_> = changed.difference(&nothing).map(String::as_str).collect();
        assert_eq!(new, lines.iter().copied().collect(), "{case}");
        assert!(changed.contains("require-sigs = true"), "{case}");
    }
    let Some(evaluation) = Evaluation::get("nix_conf_changes_in_its_lines_and_no_others") else {
        return;
    };
    let ttl = "narinfo-cache-negative-ttl = 60";
    let only = "substituters = http://127.0.0.1:8642";
    // Whom everybody may name on the command line when the agent is broken.
    let way_past = "trusted-substituters = https://cache.nixos.org/";
    case(evaluation, "nothing", &[]);
    for name in ["agent", "agentAlone", "agentByLink", "all", "everywhere"] {
        case(evaluation, name, &[ttl, only, way_past]);
    }
    case(
        evaluation,
        "leaves",
        &[ttl, "substituters = http://127.0.0.1:9000", way_past],
    );
    case(
        evaluation,
        "negativeTtl",
        &["narinfo-cache-negative-ttl = 5", only, way_past],
    );
    case(evaluation, "noUpstreams", &[ttl, only]);
    case(
        evaluation,
        "prepend",
        &["substituters = http://127.0.0.1:8642 https://cache.nixos.org/"],
    );
    case(
        evaluation,
        "forced",
        &[
            ttl,
            "substituters = http://127.0.0.1:8642 ssh://only-this",
            way_past,
        ],
    );
    for name in ["keep", "seedbox", "publisher"] {
        case(evaluation, name, &[]);
    }
    case(
        evaluation,
        "otherCaches",
        &[
            ttl,
            "substituters = http://127.0.0.1:8642 s3://bucket?region=eu-west-1 ssh://builder file:///mnt/usb/cache https://netrc.example",
            "trusted-substituters = https://cache.nixos.org/ https://covered.example/ https://untrusted.example/",
            "extra-substituters = https://extra.example",
            "extra-substituters = https://hidden.example",
            // The user's own.
            &format!(
                "trusted-public-keys = {CACHE_KEY} covered-1:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
            ),
        ],
    );
}

#[test]
fn the_firewall_opens_the_peer_port_when_asked_to() {
    fn case(evaluation: &Evaluation, case: &str, tcp: Value, udp: Value) {
        let found = evaluation.case(case);
        assert_eq!((&found["tcp"], &found["udp"]), (&tcp, &udp), "{case}");
    }
    let Some(evaluation) = Evaluation::get("the_firewall_opens_the_peer_port_when_asked_to") else {
        return;
    };
    for name in ["nothing", "agent", "seedbox", "publisher"] {
        case(evaluation, name, json!([]), json!([]));
    }
    case(evaluation, "all", json!([6881, 6882]), json!([6881, 6882]));
    // dht = false
    case(evaluation, "leaves", json!([7000]), json!([]));
}
