//! Where a program runs: on this machine's own network, or on a host of the lab's.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{ffi::OsStr, fs::File, path::Path, process::Command, thread};

use nix::sched::{CloneFlags, setns};

#[derive(Debug, Clone)]
pub enum Place {
    Here,
    Namespace(String),
}

impl Place {
    /// The program, to be started in this place; the child is the program itself.
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

    /// Runs a program there to its end and returns what it says.
    #[track_caller]
    pub fn output(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.command(program).args(arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Does `work` there: sockets that it makes stay there.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let Self::Namespace(name) = self else {
            return work();
        };
        let namespace = File::open(Path::new("/run/netns").join(name)).unwrap();
        thread::scope(|threads| {
            let thread = threads.spawn(move || {
                setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }
}
