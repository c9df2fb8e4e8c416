//! What `nix copy` sends for a NAR: zstd and xz at the levels that it takes by default, both over the whole NAR as one
//! stream of unknown length. Where Nix is installed, the real one is asked about a few NARs.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use async_compression::{Level, tokio::bufread::XzEncoder};
use narswarm::nix::{Narinfo, nar::Limits};
use narswarm::store::restore;
use tokio::io::AsyncReadExt;

use crate::lab::make_writable;

/// libarchive's, and so Nix's, when `compression-level` is not given.
const ZSTD_LEVEL: i32 = 3;
const XZ_LEVEL: i32 = 6;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    Zstd,
    Xz,
}

impl Compression {
    pub const ALL: [Self; 2] = [Self::Zstd, Self::Xz];

    pub fn name(self) -> String {
        match self {
            Self::Zstd => format!("nix copy: zstd level {ZSTD_LEVEL}, one stream"),
            Self::Xz => format!("nix copy: xz level {XZ_LEVEL}, one stream"),
        }
    }

    /// As it stands in a narinfo and in Nix's store URIs.
    pub fn uri_value(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Xz => "xz",
        }
    }

    /// The NAR as our model compresses it.
    pub fn compress(self, nar: &[u8]) -> Vec<u8> {
        match self {
            Self::Zstd => {
                let mut encoder = zstd::Encoder::new(Vec::new(), ZSTD_LEVEL).unwrap();
                encoder.write_all(nar).unwrap();
                encoder.finish().unwrap()
            }
            Self::Xz => {
                let runtime = tokio::runtime::Builder::new_current_thread();
                let compressed = async {
                    let mut encoder = XzEncoder::with_quality(nar, Level::Precise(XZ_LEVEL));
                    let mut compressed = Vec::new();
                    encoder.read_to_end(&mut compressed).await.unwrap();
                    compressed
                };
                { runtime }.build().unwrap().block_on(compressed)
            }
        }
    }
}

/// The real `nix copy`, with a store and a cache in a directory of its own.
pub struct RealNix {
    directory: tempfile::TempDir,
    pub version: String,
}

impl RealNix {
    /// `None` where Nix is not installed.
    pub fn find() -> Option<Self> {
        let output = Command::new("nix").arg("--version").output().ok()?;
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let directory = tempfile::tempdir().unwrap();
        let conf = "build-users-group =\nsandbox = false\nsubstituters =\nexperimental-features = nix-command flakes\n";
        fs::write(directory.path().join("nix.conf"), conf).unwrap();
        Some(Self { directory, version })
    }

    /// FileSize as it stands in the narinfo.
    pub fn file_size(&self, name: &str, nar: &[u8], compression: Compression) -> u64 {
        let tree = self.path(name);
        if !tree.exists() {
            restore(nar, &tree, &Limits::default()).unwrap();
        }
        let path = self.run("nix-store", &["--add", tree.to_str().unwrap()]);
        let cache = self.path(&format!("cache-{}", compression.uri_value()));
        let uri = format!(
            "file://{}?compression={}",
            cache.display(),
            compression.uri_value()
        );
        self.run("nix", &["copy", "--to", &uri, &path]);
        let base_name = path.rsplit('/').next().unwrap();
        let (hash_part, _) = base_name.split_once('-').unwrap();
        let narinfo = fs::read_to_string(cache.join(format!("{hash_part}.narinfo"))).unwrap();
        let narinfo = Narinfo::parse(&narinfo).unwrap();
        assert_eq!(narinfo.nar_size, nar.len() as u64, "{name}");
        narinfo.file_size.unwrap()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> String {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .arg("--store")
            .arg(self.path("store"))
            .env("NIX_CONF_DIR", self.directory.path())
            .env("HOME", self.path("home"))
            .env("XDG_CACHE_HOME", self.path("home/cache"));
        let output = command.output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {errors}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for RealNix {
    fn drop(&mut self) {
        make_writable(self.directory.path());
    }
}
