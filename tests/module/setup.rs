//! `narswarm setup` makes the units that the module makes: what a service gives up stands in two places, and is one.

use std::{
    collections::BTreeSet,
    fs,
    process::{Command, Stdio},
};

use crate::lab::Need;
use crate::{NARSWARM, STUB, must_succeed, project};

/// Lines that only NixOS has.
const NIXOS: [&str; 3] = ["X-Restart-Triggers", "X-Reload-Triggers", "X-StopIfChanged"];

fn setup(more: &[&str]) -> String {
    let mut command = Command::new(NARSWARM);
    command.args(["setup", "--config", "/etc/narswarm/agent.toml"]);
    let output = command.args(more).output().unwrap();
    must_succeed(&output);
    String::from_utf8(output.stdout).unwrap()
}

/// What the script writes to a file.
fn file(script: &str, path: &str) -> String {
    let start = format!("cat > {path} <<'END'\n");
    let at = script.find(&start).unwrap() + start.len();
    script[at..].split_once("\nEND\n").unwrap().0.to_owned()
}

/// Sections and lines; lists one by one, as NixOS writes them.
fn lines(unit: &str) -> BTreeSet<String> {
    let (mut lines, mut section) = (BTreeSet::new(), String::new());
    for line in unit
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let Some((key, value)) = line.split_once('=') else {
            section = line.to_owned();
            continue;
        };
        let values = match key {
            "RestrictAddressFamilies" => value.split(' ').collect(),
            _ => vec![value],
        };
        if !NIXOS.contains(&key) {
            lines.extend(values.iter().map(|value| format!("{section}{key}={value}")));
        }
    }
    lines
}

#[test]
fn setup_makes_the_units_of_the_module() {
    let script = setup(&[]);
    let program = "/usr/local/bin/narswarm";
    for unit in ["narswarm-agent.service", "narswarm-agent.socket"] {
        let ours = file(&script, &format!("/etc/systemd/system/{unit}"));
        let module = fs::read_to_string(project().join("tests/module/expected").join(unit));
        let module = module.unwrap().replace(STUB, program);
        assert_eq!(lines(&ours), lines(&module), "{unit}");
    }
}

/// Lines of a script, from the one that begins with `from` to before the one that begins with `to`.
fn part<'a>(script: &'a str, from: &str, to: &str) -> &'a str {
    let start = script.find(&format!("\n{from}")).unwrap() + 1;
    let length = script[start..].find(&format!("\n{to}")).unwrap();
    &script[start..start + length + 1]
}

/// Also where its last line has no end, and for whom that went wrong once.
#[test]
fn one_line_comes_into_nix_conf_and_goes_again() {
    if !Need::all(
        "one_line_comes_into_nix_conf_and_goes_again",
        &[Need::Program("sh")],
    ) {
        return;
    }
    let (installs, removes) = (setup(&[]), setup(&["--remove"]));
    let installs = part(&installs, "mkdir -p /etc/nix", "# A Nix for one user");
    let removes = part(
        &removes,
        "[ ! -e /etc/nix/nix.conf ]",
        "# What is not there",
    );
    let directory = tempfile::tempdir().unwrap();
    let nix = directory.path().join("nix");
    let run = |script: &str| {
        let script = script.replace("/etc/nix", nix.to_str().unwrap());
        let status = Command::new("sh").args(["-euc", &script]).status();
        assert!(status.unwrap().success(), "{script}");
        fs::read_to_string(nix.join("nix.conf")).unwrap_or_default()
    };
    let line = "!include narswarm.conf\n";
    assert_eq!(run(removes), "");
    for (before, after) in [
        ("", ""),
        ("sandbox = false", "sandbox = false\n"),
        ("sandbox = false\n", "sandbox = false\n"),
        (
            "sandbox = false!include narswarm.conf\n",
            "sandbox = false\n",
        ),
    ] {
        let _ = fs::create_dir(&nix);
        fs::write(nix.join("nix.conf"), before).unwrap();
        let merged = before.contains("!include");
        if !merged {
            for _ in 0..2 {
                assert_eq!(run(installs), format!("{after}{line}"), "{before}");
            }
        }
        for _ in 0..2 {
            assert_eq!(run(removes), after, "{before}");
        }
        assert!(!nix.join("narswarm.conf").exists());
    }
}

#[test]
fn a_refused_configuration_installs_nothing_and_can_be_removed() {
    if !Need::all(
        "a_refused_configuration_installs_nothing_and_can_be_removed",
        &[Need::Program("sh")],
    ) {
        return;
    }
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    fs::write(file.path(), "share = 1\n").unwrap();
    let run = |more: &[&str]| {
        let mut command = Command::new(NARSWARM);
        command.arg("setup").args(more).arg("--config");
        command.arg(file.path()).output().unwrap()
    };
    let refused = run(&[]);
    assert_eq!(refused.status.code(), Some(2));
    let script = String::from_utf8(refused.stdout).unwrap();
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{script}");
    assert!(said.contains("unknown field `share`"), "{said}");
    must_succeed(&run(&["--remove"]));
}

#[test]
fn both_scripts_are_sound_to_a_shell() {
    if !Need::all("both_scripts_are_sound_to_a_shell", &[Need::Program("sh")]) {
        return;
    }
    for script in [setup(&[]), setup(&["--remove"])] {
        let mut shell = Command::new("sh");
        let mut shell = shell.arg("-n").stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut shell.stdin.take().unwrap(), script.as_bytes()).unwrap();
        assert!(shell.wait().unwrap().success(), "{script}");
    }
}
