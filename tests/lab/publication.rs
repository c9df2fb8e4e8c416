//! A published release with the keys that it takes.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use ::narswarm::{
    manifest::{LayerEntry, Pointer, SignedManifest},
    torrent::InfoHash,
};
use serde_json::Value;

use super::{Nix, Outcome, PROGRAM, Place, narswarm};

/// A channel's key and a key for narinfos: names and files.
#[derive(Clone)]
pub struct Keys {
    /// The public keys.
    pub channel: String,
    pub narinfo: String,
    pub channel_secret: PathBuf,
    pub narinfo_secret: PathBuf,
}

impl Keys {
    /// Both of `narswarm keygen`.
    pub fn generate(directory: &Path) -> Self {
        Self::make_with(directory, |name, secret, public| {
            keygen(name, secret, public);
        })
    }

    /// The channel's key is ours, the one for narinfos is Nix's.
    pub fn make(nix: &Nix, directory: &Path) -> Self {
        Self::make_with(directory, |name, secret, public| {
            let command = ["--generate-binary-cache-key", name, secret, public];
            nix.run("nix-store", &command);
        })
    }

    fn make_with(directory: &Path, narinfo_keygen: impl FnOnce(&str, &str, &str)) -> Self {
        fs::create_dir_all(directory).unwrap();
        let file = |name: &str| directory.join(name);
        let (channel_secret, channel) = (file("channel.sec"), file("channel.pub"));
        let (narinfo_secret, narinfo) = (file("narinfo.sec"), file("narinfo.pub"));
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        keygen("lab-channel-1", &text(&channel_secret), &text(&channel));
        narinfo_keygen("lab-narinfo-1", &text(&narinfo_secret), &text(&narinfo));
        let read = |path| fs::read_to_string(path).unwrap().trim().to_owned();
        Self {
            channel: read(channel),
            narinfo: read(narinfo),
            channel_secret,
            narinfo_secret,
        }
    }
}

fn keygen(name: &str, secret: &str, public: &str) {
    narswarm(["keygen", name, "--secret", secret, "--public", public]).success();
}

/// What to publish, and how.
#[derive(Clone)]
pub struct Release {
    pub channel: String,
    pub name: String,
    pub keys: Keys,
    /// Whether unsigned paths get a signature.
    pub signs: bool,
    /// A store or a binary cache.
    pub from: String,
    pub paths: Vec<String>,
    /// Release files.
    pub files: Vec<PathBuf>,
    /// Further arguments.
    pub more: Vec<String>,
    pub out: PathBuf,
}

impl Release {
    /// Paths of a chroot store.
    pub fn of_store(root: &Path, paths: Vec<String>, keys: &Keys, out: PathBuf) -> Self {
        Self {
            channel: "lab".to_owned(),
            name: "r1".to_owned(),
            keys: keys.clone(),
            signs: true,
            from: root.to_str().unwrap().to_owned(),
            paths,
            files: vec![],
            more: vec![],
            out,
        }
    }

    /// Whatever becomes of it.
    pub fn run(&self) -> Outcome {
        Outcome::of(self.command())
    }

    pub fn command(&self) -> Command {
        let mut command = Place::Here.command(PROGRAM);
        command.args(["publish", "--json", "--channel", &self.channel]);
        command.args(["--release", &self.name, "--from", &self.from]);
        command.arg("--secret-key").arg(&self.keys.channel_secret);
        command.arg("--out").arg(&self.out);
        command.args(&self.more);
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        if self.signs {
            command.arg("--narinfo-key").arg(&self.keys.narinfo_secret);
        }
        if let [path] = &self.paths[..] {
            command.args(["--closure", path]);
        } else {
            let list = self.out.with_extension("paths");
            fs::write(&list, self.paths.join("\n")).unwrap();
            command.arg("--store-paths").arg(list);
        }
        command
    }

    #[track_caller]
    pub fn publish(&self) -> Publication {
        Publication {
            channel: self.channel.clone(),
            keys: self.keys.clone(),
            out: self.out.clone(),
            summary: self.run().success().json(),
        }
    }
}

#[derive(Clone)]
pub struct Publication {
    pub channel: String,
    pub keys: Keys,
    pub out: PathBuf,
    /// What `publish --json` said.
    pub summary: Value,
}

impl Publication {
    /// What its header says of its layers.
    pub fn layers(&self) -> Vec<LayerEntry> {
        let manifest = SignedManifest::parse(&fs::read(self.out.join("manifest")).unwrap());
        let keys = [self.keys.channel.parse().unwrap()];
        let channel = self.channel.parse().unwrap();
        let verified = manifest.unwrap().verify(&channel, &keys, 0).unwrap();
        verified.header().layers.clone()
    }

    /// A pointer of this channel to a manifest that does not exist.
    pub fn pointer_to_nothing(&self, sequence: u64) -> Vec<u8> {
        self.pointer(sequence, InfoHash::of(&sequence.to_be_bytes()))
    }

    /// A pointer of this channel to the manifest of another publication, or to its own under another sequence.
    pub fn pointer_to(&self, sequence: u64, other: &Self) -> Vec<u8> {
        let magnet = other.text("magnet");
        let (_, hash) = magnet.split_once("urn:btih:").unwrap();
        self.pointer(sequence, hash[..40].parse().unwrap())
    }

    fn pointer(&self, sequence: u64, manifest: InfoHash) -> Vec<u8> {
        let secret = fs::read_to_string(&self.keys.channel_secret).unwrap();
        let channel = self.channel.parse().unwrap();
        let key = secret.trim().parse().unwrap();
        let pointer = Pointer::sign(&channel, sequence, manifest, &key).unwrap();
        pointer.encode()
    }

    #[track_caller]
    pub fn number(&self, key: &str) -> u64 {
        let number = self.summary[key].as_u64();
        number.unwrap_or_else(|| panic!("no {key} in {}", self.summary))
    }

    #[track_caller]
    pub fn text(&self, key: &str) -> &str {
        let text = self.summary[key].as_str();
        text.unwrap_or_else(|| panic!("no {key} in {}", self.summary))
    }
}
