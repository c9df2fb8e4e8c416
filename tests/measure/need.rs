//! What a measurement needs beyond the toolchain: it stops and names what is missing.

use std::process::{Command, exit};

/// A program, and the Debian package that has it.
pub fn program(name: &str, package: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if !std::env::split_paths(&path).any(|directory| directory.join(name).is_file()) {
        stop(&format!(
            "{name} is not installed: apt-get install {package}"
        ));
    }
}

/// Namespaces and links are made by root alone.
pub fn root() {
    let id = Command::new("id").arg("-u").output();
    if !id.is_ok_and(|output| output.stdout.trim_ascii() == b"0") {
        stop("network namespaces need root");
    }
}

fn stop(reason: &str) -> ! {
    eprintln!("not measured: {reason}");
    exit(1)
}
