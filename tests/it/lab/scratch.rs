//! A directory that goes away with the test, stores in it included.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::shared::make_writable;

pub struct Scratch {
    dir: TempDir,
}

impl Scratch {
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("narswarm-it-").tempdir();
        Self { dir: dir.unwrap() }
    }

    /// A path in it; nothing is created.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn directory(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    pub fn root(&self) -> &Path {
        self.dir.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        make_writable(self.dir.path());
    }
}
