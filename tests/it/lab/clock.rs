//! The clock of a machine: of one program's process, through libfaketime.

use std::process::Command;

use super::{Need, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    Right,
    /// As `faketime` writes it: `+5y`.
    Off(&'static str),
}

impl Clock {
    /// What `Off` needs.
    pub const NEED: Need = Need::Program("faketime");

    pub fn set(self, command: &mut Command) {
        if let Self::Off(by) = self {
            // `faketime` itself would stand between the test and the program: what it would set is set here.
            let mut faketime = Command::new("faketime");
            faketime.args(["-m", "-f", by, "printenv", "LD_PRELOAD"]);
            let library = Outcome::of(faketime).success().stdout;
            command.env("LD_PRELOAD", library.trim());
            command.env("FAKETIME", by);
            // Time goes on as it does: only the date is wrong.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
    }
}
