//! A file system of its own for a directory; it goes away with the value.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

pub struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    pub fn tmpfs(at: &Path, options: &str) -> Self {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "narswarm-it"]);
        let output = mount.arg(at).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "mount {}: {errors}", at.display());
        Self(at.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Whatever still has a file open there: the directory is free at once.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
