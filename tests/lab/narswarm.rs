//! One command of the program, run to its end.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{ffi::OsStr, process::Command};

use serde_json::Value;

use super::Place;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_narswarm");

pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `narswarm` with these arguments, here.
#[track_caller]
pub fn narswarm<I: IntoIterator<Item = impl AsRef<OsStr>>>(arguments: I) -> Outcome {
    let mut command = Place::Here.command(PROGRAM);
    command.args(arguments);
    Outcome::of(command)
}

impl Outcome {
    #[track_caller]
    pub fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let code = output.status.code();
        Self {
            code: code.unwrap_or_else(|| panic!("{command:?} was killed: {:?}", output.status)),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    #[track_caller]
    pub fn success(self) -> Self {
        self.exits(0)
    }

    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        let Self {
            code: found,
            stdout,
            stderr,
        } = &self;
        assert_eq!(*found, code, "stdout: {stdout}\nstderr: {stderr}");
        self
    }

    /// Says all of `words` on stderr.
    #[track_caller]
    pub fn says(self, words: &[&str]) -> Self {
        for word in words {
            assert!(
                self.stderr.contains(word),
                "no '{word}' in: {}",
                self.stderr
            );
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}
