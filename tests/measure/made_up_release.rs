//! The manifest of a made-up release, as `publish` would write it, under keys that are nobody's.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use narswarm::manifest::{Assembled, Header, Pointer, SignedManifest};
use narswarm::nix::{SecretKey, StoreDir};

use crate::release::CHANNEL;

pub const CHANNEL_KEY: &str = "measure-1";
/// As long as the name that nearly all real signatures bear.
pub const NARINFO_KEY: &str = "cache.nixos.org-1";
pub const SYSTEM: &str = "x86_64-linux";
const LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);

/// The same in every process.
pub fn key(name: &str) -> SecretKey {
    let pair = ed25519_dalek::SigningKey::from_bytes(&[1; 32]).to_keypair_bytes();
    let text = format!("{name}:{}", data_encoding::BASE64.encode(&pair));
    text.parse().unwrap()
}

pub fn header(assembled: &Assembled, sequence: u64) -> Header {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Header {
        channel: CHANNEL.parse().unwrap(),
        release: sequence.to_string(),
        sequence,
        created: now.as_secs(),
        expires: (now + LIFETIME).as_secs(),
        store_dir: StoreDir::default(),
        systems: vec![SYSTEM.into()],
        layers: assembled.layers.clone(),
        files: vec![],
        trackers: vec![],
        seedboxes: vec![],
        bootstrap: vec![],
    }
}

/// What an agent fetches for a release when it has the one before.
pub struct Moved {
    pub header: usize,
    pub layer: usize,
}

impl Moved {
    pub fn total(&self) -> usize {
        self.header + self.layer
    }
}

/// Writes what `publish` would, torrents left out; the manifest last.
pub fn write(directory: &Path, header: &Header, assembled: &Assembled) -> Moved {
    let layers = directory.join("layers");
    fs::create_dir_all(&layers).unwrap();
    let layer = assembled.new_layer.as_ref().unwrap();
    let entry = assembled.layers.last().unwrap();
    fs::write(layers.join(HEXLOWER.encode(&entry.sha256)), layer).unwrap();
    let signed = SignedManifest::sign(header, &key(CHANNEL_KEY)).unwrap();
    let encoded = signed.encode();
    let manifest = signed.info_dict().unwrap().info_hash();
    let (channel, key) = (&header.channel, key(CHANNEL_KEY));
    let pointer = Pointer::sign(channel, header.sequence, manifest, &key).unwrap();
    fs::write(directory.join("pointer"), pointer.encode()).unwrap();
    fs::write(directory.join("manifest.new"), &encoded).unwrap();
    fs::rename(directory.join("manifest.new"), directory.join("manifest")).unwrap();
    Moved {
        header: encoded.len(),
        layer: layer.len(),
    }
}
