//! The units: as written down here, sound to systemd, and following the options.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::json;

use crate::evaluation::Evaluation;
use crate::lab::Need;
use crate::{NARSWARM, STUB, must_succeed, project};

/// `systemd-analyze security` counts in tenths: below 2.0.
const EXPOSURE: &str = "20";
/// Set it to write what is generated to tests/module/expected/.
const BLESS: &str = "BLESS";
/// All of them, as they are in tests/module/expected/.
const UNITS: [&str; 5] = [
    "narswarm-agent.service",
    "narswarm-agent.socket",
    "narswarm-publisher.service",
    "narswarm-publisher.timer",
    "narswarm-seedbox.service",
];

fn expected(unit: &str) -> PathBuf {
    project().join("tests/module/expected").join(unit)
}

/// Written by the evaluation, and looked at by systemd wherever that is.
#[test]
fn units_are_sound_and_give_up_what_they_can() {
    if !Need::all("units", &[Need::Program("systemd-analyze")]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let mut units = Vec::new();
    for name in UNITS {
        let unit = scratch.path().join(name);
        let text = fs::read_to_string(expected(name)).unwrap();
        // systemd looks whether the programs are there.
        let text = text.replace(STUB, NARSWARM);
        let text: String = text
            .lines()
            .map(|line| match line.starts_with("ExecStart=/nix/store/") {
                true => "ExecStart=/bin/true\n".to_owned(),
                false => format!("{line}\n"),
            })
            .collect();
        fs::write(&unit, text).unwrap();
        units.push(unit);
    }
    for unit in units {
        let analyze = |arguments: &[&str]| {
            let mut command = Command::new("systemd-analyze");
            command.args(arguments).arg(&unit).output().unwrap()
        };
        let verified = analyze(&["verify", "--man=no"]);
        must_succeed(&verified);
        // It says what it does not know, and succeeds.
        assert_eq!(String::from_utf8_lossy(&verified.stderr), "", "{unit:?}");
        if unit
            .extension()
            .is_some_and(|extension| extension == "service")
        {
            let threshold = format!("--threshold={EXPOSURE}");
            must_succeed(&analyze(&[
                "security",
                "--offline=true",
                "--no-pager",
                &threshold,
            ]));
        }
    }
}

#[test]
fn units_are_those_that_are_expected() {
    let Some(evaluation) = Evaluation::get("units_are_those_that_are_expected") else {
        return;
    };
    let all = &evaluation.case("all")["units"];
    for name in UNITS {
        let unit = all[name].as_str().unwrap();
        // NixOS gives every unit an environment of its own, and blank lines.
        let unit: String = unit
            .lines()
            .filter(|line| !line.is_empty() && !line.starts_with("Environment="))
            .map(|line| format!("{line}\n"))
            .collect();
        if std::env::var_os(BLESS).is_some() {
            fs::write(expected(name), &unit).unwrap();
        }
        assert_eq!(unit, fs::read_to_string(expected(name)).unwrap(), "{name}");
    }
    assert_eq!(all.as_object().unwrap().keys().collect::<Vec<_>>(), UNITS);

    // Each role alone has the same units as together, and no others.
    for (case, units) in [
        ("nothing", &[][..]),
        (
            "agentAlone",
            &["narswarm-agent.service", "narswarm-agent.socket"],
        ),
        ("seedbox", &["narswarm-seedbox.service"]),
        (
            "publisher",
            &["narswarm-publisher.service", "narswarm-publisher.timer"],
        ),
        ("publisherOfEverything", &["narswarm-publisher.service"]),
    ] {
        let alone = evaluation.case(case)["units"].as_object().unwrap();
        assert_eq!(alone.keys().collect::<Vec<_>>(), units, "{case}");
        for unit in units.iter().filter(|_| case != "publisherOfEverything") {
            assert_eq!(alone[*unit], all[*unit], "{case}: {unit}");
        }
    }
}

#[test]
fn units_follow_the_options() {
    fn case(evaluation: &Evaluation, case: &str, unit: &str, has: &[&str], lacks: &[&str]) {
        let unit = evaluation.case(case)["units"][unit].as_str().unwrap();
        let has_line = |wanted: &&str| unit.lines().any(|line| line.starts_with(*wanted));
        let missing: Vec<_> = has.iter().filter(|line| !has_line(line)).collect();
        let surplus: Vec<_> = lacks.iter().filter(|line| has_line(line)).collect();
        assert!(
            missing.is_empty() && surplus.is_empty(),
            "{case}: {missing:?} {surplus:?} in\n{unit}"
        );
    }
    let Some(evaluation) = Evaluation::get("units_follow_the_options") else {
        return;
    };
    let seedbox = "narswarm-seedbox.service";
    case(
        evaluation,
        "leaves",
        "narswarm-agent.socket",
        &["ListenStream=127.0.0.1:9000"],
        &[],
    );
    case(
        evaluation,
        "netrc",
        "narswarm-agent.service",
        &["LoadCredential=netrc:/run/secrets/netrc"],
        &[],
    );
    // Without an amount, or with a store, nothing is written outside the state directory.
    case(
        evaluation,
        "seedboxReadOnly",
        seedbox,
        &["RequiresMountsFor=/srv/payloads"],
        &["ReadWritePaths"],
    );
    case(
        evaluation,
        "seedboxOfStore",
        seedbox,
        &["RequiresMountsFor=/nix/store"],
        &["ReadWritePaths"],
    );
    case(
        evaluation,
        "publisherOfEverything",
        "narswarm-publisher.service",
        &[
            "LoadCredential=narinfo-key:/run/secrets/cache.sec",
            "LoadCredential=secret-key:/run/secrets/channel.sec",
            "PrivateNetwork=false",
            "ReadWritePaths=/srv/channel",
            "ReadWritePaths=/srv/payloads",
        ],
        &[],
    );
    let directories = |case: &str| evaluation.case(case)["directories"].clone();
    assert_eq!(directories("seedboxReadOnly"), json!({}));
    assert_eq!(directories("seedboxOfStore"), json!({}));
    let disk = &directories("seedbox")["narswarm-seedbox"]["/mnt/nixpkgsDisk"]["d"];
    assert_eq!(disk["user"], "narswarm-seedbox");
    // The agent has no user of its own.
    assert_eq!(evaluation.case("agent")["users"], json!([]));
}

/// In step with `needing_restart` of the program.
#[test]
fn what_a_running_program_takes_over_restarts_nothing() {
    let Some(evaluation) = Evaluation::get("what_a_running_program_takes_over_restarts_nothing")
    else {
        return;
    };
    let triggers = |case: &str| {
        let triggers = &evaluation.case(case)["restartTriggers"]["narswarm-agent"];
        assert_eq!(triggers.as_array().unwrap().len(), 1, "{case}: {triggers}");
        triggers[0].as_str().unwrap().to_owned()
    };
    assert_eq!(triggers("agentReloaded"), triggers("agent"));
    // A unit with another text is restarted as well.
    let units = |case: &str| evaluation.case(case)["units"].clone();
    assert_eq!(units("agentReloaded"), units("agent"));
    for key in [
        "listen",
        "dht",
        "bootstrap",
        "lsd",
        "upnp",
        "neighbours",
        "recreate_threads",
        "recreate_nice",
        "cache",
        "store",
    ] {
        let restarted = triggers(&format!("agentRestarted-{key}"));
        assert_ne!(restarted, triggers("agent"), "{key}");
    }
}
