//! A file system of its own for a directory; it goes away with the value.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        mount(&["-t", "tmpfs", "-o", options, "narswarm-it"], at);
        Self(at.to_owned())
    }

    /// The directory itself, but nothing can be written there by whoever opens it from now on.
    #[track_caller]
    pub fn read_only(at: &Path) -> Self {
        mount(&["--bind", at.to_str().unwrap()], at);
        let mount_of = Self(at.to_owned());
        mount(&["-o", "remount,bind,ro"], at);
        mount_of
    }
}

#[track_caller]
fn mount(arguments: &[&str], at: &Path) {
    let mut mount = Command::new("mount");
    let output = mount.args(arguments).arg(at).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "mount {}: {errors}", at.display());
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whatever still has a file open there: the directory is free at once.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
