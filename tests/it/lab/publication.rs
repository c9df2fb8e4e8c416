//! A published release with the keys that it takes.

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

use super::{Closure, Nix, Outcome, Place, narswarm, narswarm::PROGRAM};

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
    /// The channel's key is ours, the one for narinfos is Nix's.
    pub fn make(nix: &Nix, directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        let file = |name: &str| directory.join(name);
        let (channel_secret, channel) = (file("channel.sec"), file("channel.pub"));
        let arguments = ["keygen", "lab-channel-1", "--secret"].map(Into::into);
        narswarm(arguments.into_iter().chain([
            channel_secret.clone(),
            "--public".into(),
            channel.clone(),
        ]))
        .success();
        let (narinfo_secret, narinfo) = (file("narinfo.sec"), file("narinfo.pub"));
        let [secret, public] = [&narinfo_secret, &narinfo].map(|path| path.to_str().unwrap());
        nix.run(
            "nix-store",
            &[
                "--generate-binary-cache-key",
                "lab-narinfo-1",
                secret,
                public,
            ],
        );
        let read = |path| fs::read_to_string(path).unwrap().trim().to_owned();
        Self {
            channel: read(channel),
            narinfo: read(narinfo),
            channel_secret,
            narinfo_secret,
        }
    }
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
    /// The closure in its own store.
    pub fn of(closure: &Closure, keys: &Keys, out: PathBuf) -> Self {
        Self {
            channel: "lab".to_owned(),
            name: "r1".to_owned(),
            keys: keys.clone(),
            signs: true,
            from: closure.root.to_str().unwrap().to_owned(),
            paths: vec![closure.top.clone()],
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
    /// Publishes `closure` from its store into `directory/release`, with new keys.
    #[track_caller]
    pub fn of(nix: &Nix, closure: &Closure, directory: &Path) -> Self {
        let keys = Keys::make(nix, &directory.join("keys"));
        Release::of(closure, &keys, directory.join("release")).publish()
    }

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

    /// The same of several paths.
    #[track_caller]
    pub fn of_all(nix: &Nix, closure: &Closure, tops: &[&str], directory: &Path) -> Self {
        let keys = Keys::make(nix, &directory.join("keys"));
        let release = Release {
            paths: tops.iter().map(|top| (*top).to_owned()).collect(),
            ..Release::of(closure, &keys, directory.join("release"))
        };
        release.publish()
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
