//! `unit`: how exposed the generated services are, as systemd counts it (0 is best, 10 is no sandbox).
//!
//! One run: it reads files. The units are those that the module's tests compare with what the module makes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::setting;
use crate::table::Table;

const UNITS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/module/expected");
const ROLES: [&str; 3] = ["agent", "seedbox", "publisher"];

pub fn measure() -> Value {
    let version = Command::new("systemd-analyze").arg("--version").output();
    let version = String::from_utf8(version.unwrap().stdout).unwrap();
    let version = version.lines().next().unwrap_or("?").to_owned();
    setting::print(
        "What a service could still do if it were taken over",
        &[format!(
            "systemd-analyze security --offline=true, {version}; 0 is best, 10 is worst"
        )],
    );
    let place = tempfile::tempdir().unwrap();
    let exposures = ROLES.map(|role| exposure(place.path(), role));
    let mut table = Table::new(["unit", "exposure"]);
    for (role, exposure) in ROLES.iter().zip(exposures) {
        table.row([format!("narswarm-{role}.service"), format!("{exposure:.1}")]);
    }
    println!("{table}");
    let [agent, seedbox, publisher] = exposures;
    let exposure = exposures.into_iter().fold(0.0, f64::max);
    json!({ "exposure": exposure, "agent": agent, "seedbox": seedbox, "publisher": publisher })
}

fn exposure(place: &Path, role: &str) -> f64 {
    let name = format!("narswarm-{role}.service");
    let text = fs::read_to_string(Path::new(UNITS).join(&name)).unwrap();
    let runnable = |line: &str| match line.split_once("=/nix/store/") {
        // systemd looks whether programs are there.
        Some((key, _)) if key.starts_with("Exec") => format!("{key}=/bin/true\n"),
        _ => format!("{line}\n"),
    };
    let unit = place.join(&name);
    fs::write(&unit, text.lines().map(runnable).collect::<String>()).unwrap();
    let mut command = Command::new("systemd-analyze");
    command
        .args(["security", "--offline=true", "--no-pager"])
        .arg(&unit);
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let overall = output.lines().find_map(|line| {
        let (_, rest) = line.split_once("Overall exposure level")?;
        rest.split_whitespace().find_map(|word| word.parse().ok())
    });
    overall.unwrap_or_else(|| panic!("no overall exposure in {output}"))
}
