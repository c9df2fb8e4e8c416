//! Every .nix file parses, is formatted, and holds nothing that is not used.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::evaluation;
use crate::lab::Need;
use crate::{must_succeed, project};

fn nix_files() -> Vec<PathBuf> {
    let mut files = Vec::new();
    for directory in ["nixos-module", "tests/module"] {
        let entries = fs::read_dir(project().join(directory)).unwrap();
        files.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|extension| extension == "nix")),
        );
    }
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    files
}

#[test]
fn every_file_parses() {
    if !Need::all("every_file_parses", &[Need::Program("nix-instantiate")]) {
        return;
    }
    for file in nix_files() {
        let mut nix = evaluation::nix_instantiate();
        must_succeed(&nix.command.arg("--parse").arg(&file).output().unwrap());
    }
}

/// Neither is in Debian: `cargo install nixpkgs-fmt deadnix`.
#[test]
fn every_file_is_formatted_and_alive() {
    for (program, flag) in [("nixpkgs-fmt", "--check"), ("deadnix", "--fail")] {
        match Command::new(program).arg(flag).args(nix_files()).output() {
            Ok(output) => must_succeed(&output),
            Err(error) => Need::optional(program, &error.to_string()),
        }
    }
}
