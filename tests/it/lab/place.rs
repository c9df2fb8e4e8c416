//! Where a program runs: here, or on a host of the test's own network.

use std::{ffi::OsStr, process::Command};

#[derive(Debug, Clone)]
pub enum Place {
    Here,
    Namespace(String),
}

impl Place {
    /// The program with these first arguments, to be started in this place.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Here => Command::new(program),
            Self::Namespace(name) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name]).arg(program);
                command
            }
        }
    }
}
