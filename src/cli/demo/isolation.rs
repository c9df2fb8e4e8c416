//! Runs the demo in a network namespace of its own, with nothing but loopback: there no name can be resolved at all.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::cli::exit::{FAILED, Failure};

/// Set for the copy of the program that runs inside.
const MARK: &str = "NARSWARM_DEMO_ALONE";
/// Loopback is down in a new namespace.
const INSIDE: &str = "ip link set lo up && exec \"$0\" \"$@\"";

/// Starts this program again inside, if the machine lets us. `None` means: go on here.
pub fn rerun_alone() -> Option<Result<(), Failure>> {
    if is_alone() {
        return None;
    }
    let possible = unshare()
        .args(["sh", "-c", "ip link set lo up"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !possible.is_ok_and(|status| status.success()) {
        return None;
    }
    let program = std::env::current_exe().ok()?;
    let mut inside = unshare();
    inside
        .args(["sh", "-c", INSIDE])
        .arg(program)
        .args(std::env::args_os().skip(1))
        .env(MARK, "1");
    Some(match inside.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => {
            let code = status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(FAILED);
            let signal = status
                .signal()
                .map(|signal| format!(" (signal {signal})"))
                .unwrap_or_default();
            Err(Failure::new(code, format!("the demo failed{signal}")))
        }
        Err(error) => Err(Failure::failed(format!(
            "cannot start the demo in a namespace: {error}"
        ))),
    })
}

/// Whether this process runs inside.
pub fn is_alone() -> bool {
    std::env::var_os(MARK).is_some()
}

pub fn describe() -> &'static str {
    if is_alone() {
        "The demo runs in a network namespace of its own: there is loopback and nothing else."
    } else {
        "The demo runs on loopback. (With unshare and ip it would run in a network namespace of its own.)"
    }
}

pub fn proof() -> &'static str {
    if is_alone() {
        "in this namespace there is no way to any name server"
    } else {
        "every address in every configuration is a literal"
    }
}

/// A new network namespace; root needs no user namespace for it, and would lose its rights in one.
fn unshare() -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.arg("--");
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
