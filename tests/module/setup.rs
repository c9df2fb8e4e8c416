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
