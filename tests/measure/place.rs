//! Where a program runs: on this machine's own network, or on a host of the lab.

use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns};

#[derive(Debug, Clone)]
pub enum Place {
    Here,
    Namespace(String),
}

impl Place {
    /// A program there; the child is the program itself.
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
