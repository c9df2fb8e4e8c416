//! Wrong options: refused, or warned of, with a reason that helps.

use crate::evaluation::{Evaluation, strings};

#[test]
fn wrong_options_are_refused_with_their_reason() {
    fn case(evaluation: &Evaluation, case: &str, what: &str, says: &[&str]) {
        let found = strings(&evaluation.case(case)[what]);
        let matches = |(message, wanted): (&String, &&str)| message.contains(*wanted);
        let all = found.len() == says.len() && found.iter().zip(says).all(matches);
        assert!(all, "{case}: {what} are {found:#?}");
    }
    let Some(evaluation) = Evaluation::get("wrong_options_are_refused_with_their_reason") else {
        return;
    };
    for good in [
        "nothing",
        "agent",
        "agentByLink",
        "seedbox",
        "publisher",
        "all",
        "leaves",
        "seedboxOfStore",
    ] {
        case(evaluation, good, "refused", &[]);
        case(evaluation, good, "warnings", &[]);
    }
    let refused = |name, says: &[&str]| case(evaluation, name, "refused", says);
    refused(
        "notALink",
        &["is not a channel's link (magnet:?xs=urn:btpk:...)"],
    );
    refused(
        "halfAChannel",
        &["a link or name, key and manifest; this one has name."],
    );
    refused("bothForms", &["this one has key, link, manifest, name."]);
    refused("channelsTwice", &["settings.channel replaces channels"]);
    refused(
        "channelKeyTrusted",
        &["is in nix.settings.trusted-public-keys"],
    );
    refused(
        "unfitUpstreams",
        &[
            "cannot ask s3://bucket",
            "has a password in its URL",
            "http://127.0.0.1:8642/ is the agent itself",
        ],
    );
    refused(
        "noPort",
        &[
            "openFirewall: settings.swarm.listen has port 0",
            "settings.shim.listen has port 0",
        ],
    );
    refused("samePort", &["both listen for peers on port 6881"]);
    refused(
        "emptySeedbox",
        &["location is not set", "channels is empty"],
    );
    refused(
        "seedboxAtHome",
        &["\"/home/me/disk\": it must be an absolute path and not below /home"],
    );
    refused(
        "secretInStore",
        &[
            "narinfoKeyFile is in the Nix store",
            "secretKeyFile is in the Nix store",
        ],
    );
    refused(
        "nothingToPublish",
        &[
            "Set either closure or storePaths",
            "\"relative\": it must be an absolute path",
        ],
    );

    let warned = |name, says: &[&str]| case(evaluation, name, "warnings", says);
    warned("noChannel", &["follows no channel"]);
    warned(
        "everywhere",
        &["evaluating them is root", "whoever reaches this address"],
    );
    warned(
        "forced",
        &[
            "ssh://only-this stays in nix.conf beside the agent: the agent asks http and https only.",
        ],
    );
    warned(
        "otherCaches",
        &[
            "s3://bucket?region=eu-west-1 stays",
            "ssh://builder stays",
            "file:///mnt/usb/cache stays",
            "https://netrc.example stays in nix.conf beside the agent: it is not in services.narswarm.agent.upstreams",
            "https://extra.example stays",
            "Nix will refuse its packages",
            "nix.extraOptions speaks of substituters",
        ],
    );

    for (name, says) in [
        (
            "share",
            "is not of type `one of \"off\", \"lan\", \"public\"'",
        ),
        (
            "configureSubstituter",
            "is not of type `one of \"only\", \"prepend\", \"keep\"'",
        ),
        (
            "amount",
            "is not of type `null or string matching the pattern",
        ),
        ("listen", "is not of type `string matching the pattern"),
        ("channelOption", "nmae' does not exist"),
        ("channelName", "is not of type `string matching the pattern"),
        (
            "settingsOfPublisher",
            "services.narswarm.publisher.settings' does not exist",
        ),
    ] {
        let error = evaluation.fails(&format!("mistyped.{name}"));
        assert!(error.contains(says), "{name}: {error}");
    }
}
