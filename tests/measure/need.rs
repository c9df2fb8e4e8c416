//! What a measurement needs beyond the toolchain: it stops and names what is missing.

use std::process::exit;

use crate::lab::{is_installed, is_root};

/// A program, and the Debian package that has it.
pub fn program(name: &str, package: &str) {
    if !is_installed(name) {
        stop(&format!(
            "{name} is not installed: apt-get install {package}"
        ));
    }
}

/// Namespaces and links are made by root alone.
pub fn root() {
    if !is_root() {
        stop("network namespaces need root");
    }
}

fn stop(reason: &str) -> ! {
    eprintln!("not measured: {reason}");
    exit(1)
}
