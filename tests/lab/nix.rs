//! A Nix of its own for a test: configuration, home and a chroot store in a directory that goes away.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

use narswarm::nix::{StoreDir, StorePath};
use tempfile::TempDir;

use super::Need;

const NIX_CONF: &str = "\
build-users-group =
sandbox = false
sandbox-paths = /bin /lib /lib64 /usr
substituters =
experimental-features = nix-command flakes
";

pub struct Nix {
    dir: TempDir,
    homes: AtomicU32,
}

impl Nix {
    /// `None`, said plainly, where Nix is not installed.
    #[track_caller]
    pub fn new(test: &str) -> Option<Self> {
        Need::all(test, &[Need::NIX]).then(Self::installed)
    }

    /// For whoever has asked for `Need::NIX` already.
    pub fn installed() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["conf", "work"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("conf/nix.conf"), NIX_CONF).unwrap();
        Self {
            dir,
            homes: AtomicU32::new(0),
        }
    }

    /// Where a test may write.
    pub fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// The root of the chroot store.
    pub fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// One of Nix's programs, with a home that nobody used before: Nix remembers there what caches answered.
    pub fn prepare(&self, command: &mut Command) {
        let number = self.homes.fetch_add(1, Ordering::Relaxed);
        let home = self.dir.path().join(format!("home-{number}"));
        command
            .current_dir(self.work())
            .env("NIX_CONF_DIR", self.dir.path().join("conf"))
            // Whoever names no store means this one: the machine's own is never touched.
            .env("NIX_REMOTE", self.root())
            .env("XDG_CACHE_HOME", home.join("cache"))
            .env("HOME", home);
    }

    pub fn output(&self, program: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(program);
        self.prepare(&mut command);
        command.args(arguments).output().unwrap()
    }

    /// Runs one of Nix's programs; its output as bytes.
    #[track_caller]
    pub fn bytes(&self, program: &str, arguments: &[&str]) -> Vec<u8> {
        let output = self.output(program, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {} {errors}",
            output.status
        );
        output.stdout
    }

    /// The same, as text without the last line break.
    #[track_caller]
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        let output = String::from_utf8(self.bytes(program, arguments)).unwrap();
        output.trim_end().to_owned()
    }

    /// The same on the store in `root`.
    #[track_caller]
    pub fn on(&self, root: &Path, program: &str, arguments: &[&str]) -> String {
        let store = ["--store", root.to_str().unwrap()];
        self.run(program, &[arguments, &store].concat())
    }

    /// The same on the lab's store.
    #[track_caller]
    pub fn on_store(&self, program: &str, arguments: &[&str]) -> String {
        self.on(&self.root(), program, arguments)
    }

    /// The NAR of a path in the chroot store at `root`.
    #[track_caller]
    pub fn dump(&self, root: &Path, full: &str) -> Vec<u8> {
        let real = root.join(full.trim_start_matches('/'));
        self.bytes("nix-store", &["--dump", real.to_str().unwrap()])
    }

    /// Builds a path `top` that refers to itself and to `leaf`, and `leaf`.
    #[track_caller]
    pub fn build_two(&self) -> StorePath {
        let expression = r#"
            let
              make = name: script: derivation {
                inherit name;
                system = builtins.currentSystem;
                builder = "/bin/sh";
                args = [ "-c" script ];
              };
              leaf = make "leaf" "echo hello > $out";
            in make "top" "/bin/mkdir $out; echo $out ${leaf} > $out/words"
        "#;
        let file = self.write("two.nix", expression);
        let arguments = ["--no-out-link", &file];
        store_path(&self.on_store("nix-build", &arguments))
    }

    pub fn write(&self, name: &str, text: &str) -> String {
        let file = self.work().join(name);
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    }
}

impl Drop for Nix {
    fn drop(&mut self) {
        make_writable(self.dir.path());
    }
}

/// Stores are read-only; an ordinary user could not remove them.
pub fn make_writable(path: &Path) {
    let _ = Command::new("chmod").args(["-R", "u+w"]).arg(path).output();
}

#[track_caller]
pub fn store_path(full: &str) -> StorePath {
    StorePath::parse(&StoreDir::default(), full).unwrap()
}
