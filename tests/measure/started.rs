//! A process of this program in another part, at some place; killed when dropped.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use crate::lab::Place;

/// What such a process says when it is ready.
pub const READY: &str = "ready";

pub struct Started(Child);

impl Started {
    /// Returns when it is ready.
    pub fn ourselves(at: &Place, arguments: &[&str]) -> Self {
        let mut command = at.command(std::env::current_exe().unwrap());
        let child = command.args(arguments).stdout(Stdio::piped()).spawn();
        let mut started = Self(child.unwrap());
        let mut line = String::new();
        let mut said = BufReader::new(started.0.stdout.take().unwrap());
        said.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), READY, "{arguments:?}");
        started
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
