//! What a test needs of the machine. Without it the test says so and passes, unless `NARSWARM_TESTS=all`.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{io::Write as _, process::Command, sync::OnceLock};

/// Set by `tests/run` when it has installed everything: then a miss is a failure.
const ALL: &str = "NARSWARM_TESTS";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    Root,
    /// Network namespaces of its own, through iproute2; needs root as well.
    Namespaces,
    Program(&'static str),
}

impl Need {
    pub const NIX: Self = Self::Program("nix-store");

    /// Whether the machine has all of `needs`; if not, that is said on stderr, past the capture of the test harness.
    #[track_caller]
    pub fn all(test: &str, needs: &[Self]) -> bool {
        let Some(why) = needs.iter().find_map(|need| need.missing()) else {
            return true;
        };
        Self::not_run(test, &why);
        false
    }

    #[track_caller]
    pub fn not_run(test: &str, why: &str) {
        let required = std::env::var(ALL).is_ok_and(|value| value == "all");
        assert!(
            !required,
            "{test} did not run: {why} ({ALL}=all asks for every test)"
        );
        Self::optional(test, why);
    }

    /// Says that a test did not run that nobody can insist on.
    pub fn optional(test: &str, why: &str) {
        // One write: others write at the same time.
        let line = format!("NOT RUN: {test}: {why}\n");
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn missing(self) -> Option<String> {
        match self {
            Self::Root => (!is_root()).then(|| "not root".to_owned()),
            Self::Namespaces => {
                if !is_root() {
                    return Some("not root".to_owned());
                }
                (!namespaces_work()).then(|| "network namespaces cannot be made here".to_owned())
            }
            Self::Program(program) if !is_installed(program) => {
                Some(format!("{program} is not installed"))
            }
            // Without root Nix can build into a chroot store only where users may make namespaces.
            Self::NIX if !is_root() && !succeeds("unshare", &["--user", "--mount", "true"]) => {
                Some("neither root nor user namespaces, which Nix needs".to_owned())
            }
            Self::Program(_) => None,
        }
    }
}

pub fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Tried once.
fn namespaces_work() -> bool {
    static WORK: OnceLock<bool> = OnceLock::new();
    *WORK.get_or_init(|| {
        // Named like the namespaces of `Hosts`: nobody sweeps it while this process lives.
        let probe = format!("nsw-{}-probe", std::process::id());
        succeeds("ip", &["netns", "add", &probe]) && succeeds("ip", &["netns", "del", &probe])
    })
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    let output = Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

pub fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}
