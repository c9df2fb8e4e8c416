//! The verified manifests of one channel on disk: what a restart binds with, and the sequence below which nothing goes.
//!
//! ```text
//! STATE/channels/CHANNEL-KEY/sequence            the highest sequence ever accepted, decimal
//! STATE/channels/CHANNEL-KEY/manifests/SEQUENCE  signed manifests, the newest `keep_releases`
//! STATE/channels/CHANNEL-KEY/layers/SHA256       layers that these list
//! STATE/channels/CHANNEL-KEY/files/SHA256        release files that these list, where they are kept
//! ```
//! Every file appears whole or not at all; a manifest is written after its layers.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::manifest::{
    ChannelName, Layer, LayerEntry, ReleaseFile, SignedManifest, VerifiedManifest, VerifyError,
};
use crate::nix::PublicKey;
use crate::runtime::{Readers, remove_leftovers, write_new};
use crate::torrent::{InfoDict, TorrentError};

use super::merged::{PlainFile, Release};

#[derive(Debug, Error)]
pub enum ShelfError {
    #[error("cannot {action} {path}: {source}")]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{path} is not a sequence number: restore it or, to forget what was accepted, remove {directory}"
    )]
    Sequence { path: PathBuf, directory: PathBuf },
    #[error("the release file {0} is not the one that the manifest lists")]
    FileHash(String),
    #[error(transparent)]
    Verify(#[from] VerifyError),
    #[error("the manifest as a torrent: {0}")]
    Torrent(#[from] TorrentError),
}

pub struct Shelf {
    directory: PathBuf,
    channel: ChannelName,
    key: PublicKey,
    keep: usize,
}

impl Shelf {
    pub fn open(
        state: &Path,
        channel: ChannelName,
        key: PublicKey,
        keep: usize,
    ) -> Result<Self, ShelfError> {
        let shelf = Self::of_another(state, channel, key, keep);
        for directory in ["manifests", "layers", "files"] {
            let path = shelf.directory.join(directory);
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
            let _ = remove_leftovers(&path, Duration::ZERO);
        }
        let _ = remove_leftovers(&shelf.directory, Duration::ZERO);
        Ok(shelf)
    }

    /// The shelf of a running agent, to read from: nothing is created.
    pub fn of_another(state: &Path, channel: ChannelName, key: PublicKey, keep: usize) -> Self {
        // A channel is its key and its name; a name is a plain file name by its type.
        let name = format!("{channel}-{}", HEXLOWER.encode(&key.bytes()[..4]));
        Self {
            directory: Self::all(state).join(name),
            channel,
            key,
            keep: keep.max(1),
        }
    }

    /// Where the shelves of all channels are.
    pub fn all(state: &Path) -> PathBuf {
        state.join("channels")
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Nothing below this is accepted any more.
    pub fn minimum_sequence(&self) -> Result<u64, ShelfError> {
        let path = self.directory.join("sequence");
        match fs::read_to_string(&path) {
            Ok(text) => {
                let sequence = text.trim().parse();
                sequence.map_err(|_| ShelfError::Sequence {
                    path,
                    directory: self.directory.clone(),
                })
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(io_error("read", &path)(error)),
        }
    }

    /// A layer that an earlier manifest brought, checked again.
    pub fn layer(&self, entry: &LayerEntry) -> Option<Arc<Layer>> {
        self.read_layer(entry).map(|(layer, _)| layer)
    }

    pub fn put_layer(&self, entry: &LayerEntry, bytes: &[u8]) -> Result<(), ShelfError> {
        write_whole(&self.layer_path(entry), bytes)
    }

    /// Where the newest manifest is, good or not.
    pub fn newest_manifest(&self) -> Result<Option<PathBuf>, ShelfError> {
        let newest = self.sequences()?.into_iter().next();
        Ok(newest.map(|sequence| self.manifests().join(sequence.to_string())))
    }

    /// Keeps a release file, if it is the one that the manifest lists.
    pub fn put_file(&self, file: &ReleaseFile, bytes: &[u8]) -> Result<(), ShelfError> {
        if !is_file(file, bytes) {
            return Err(ShelfError::FileHash(file.name.clone()));
        }
        write_whole(&self.file_path(file), bytes)
    }

    /// Keeps a manifest whose layers are all here, and lets the oldest go. What cannot go now goes with the next one.
    pub fn put(&self, manifest: &VerifiedManifest) -> Result<(), ShelfError> {
        let sequence = manifest.header().sequence;
        write_whole(
            &self.manifests().join(sequence.to_string()),
            manifest.encoded(),
        )?;
        if sequence > self.minimum_sequence()? {
            write_whole(
                &self.directory.join("sequence"),
                sequence.to_string().as_bytes(),
            )?;
        }
        self.tidy(HashSet::new());
        Ok(())
    }

    /// The kept releases, newest first; layers that `known` ones have are shared. What does not verify any more (another
    /// key, damage) is left out with a warning.
    pub fn load(&self, known: &[Release]) -> Result<Vec<Release>, ShelfError> {
        let mut releases: Vec<Release> = Vec::new();
        for sequence in self.sequences()?.into_iter().take(self.keep) {
            match self.load_one(sequence, known, &releases) {
                Ok(Some(release)) => releases.push(release),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(channel = %self.channel, sequence, %error, "a kept manifest is left out")
                }
            }
        }
        Ok(releases)
    }

    fn load_one(
        &self,
        sequence: u64,
        known: &[Release],
        loaded: &[Release],
    ) -> Result<Option<Release>, ShelfError> {
        let there = || known.iter().chain(loaded);
        let path = self.manifests().join(sequence.to_string());
        let bytes = fs::read(&path).map_err(io_error("read", &path))?;
        let manifest = self.verify(&bytes)?;
        let info = Arc::new(manifest.info_dict()?);
        let mut files = vec![PlainFile { path, info }];
        let mut layers = Vec::with_capacity(manifest.header().layers.len());
        for entry in &manifest.header().layers {
            let path = self.layer_path(entry);
            let shared = there().find_map(|release| release.shared_layer(entry, &path));
            let Some((layer, file)) = shared.or_else(|| self.read_layer(entry)) else {
                tracing::warn!(channel = %self.channel, sequence, layer = entry.number, "a kept manifest misses a layer");
                return Ok(None);
            };
            layers.push(layer);
            files.extend(file);
        }
        for listed in &manifest.header().files {
            let path = self.file_path(listed);
            let shared = there()
                .flat_map(Release::plain_files)
                .find(|file| file.path == path && file.info.info_hash() == listed.info_hash);
            files.extend(shared.cloned().or_else(|| read_file(listed, path)));
        }
        Ok(Some(Release::new(manifest, layers, files)))
    }

    fn read_layer(&self, entry: &LayerEntry) -> Option<(Arc<Layer>, Option<PlainFile>)> {
        let path = self.layer_path(entry);
        let bytes = Bytes::from(fs::read(&path).ok()?);
        let layer = Layer::parse(bytes.clone(), entry).ok()?;
        let file = entry
            .info_dict(&bytes)
            .ok()
            .map(Arc::new)
            .map(|info| PlainFile { path, info });
        Some((Arc::new(layer), file))
    }

    /// Lets everything go that neither the kept manifests nor this one list. What a manifest brought that never became
    /// whole is given up when the next one comes.
    pub fn tidy_for(&self, manifest: &VerifiedManifest) {
        let mut needed = HashSet::new();
        need(manifest, &mut needed);
        self.tidy(needed);
    }

    fn tidy(&self, needed: HashSet<String>) {
        if let Err(error) = self.prune(needed) {
            tracing::warn!(channel = %self.channel, %error, "what is not needed any more stays");
        }
    }

    fn prune(&self, mut needed: HashSet<String>) -> Result<(), ShelfError> {
        let mut manifests = HashSet::new();
        for sequence in self.sequences()? {
            if manifests.len() == self.keep {
                break;
            }
            let path = self.manifests().join(sequence.to_string());
            let bytes = fs::read(&path).map_err(io_error("read", &path))?;
            // One that is damaged is of no use to anybody.
            let Ok(manifest) = self.verify(&bytes) else {
                continue;
            };
            manifests.insert(sequence.to_string());
            need(&manifest, &mut needed);
        }
        for (directory, needed) in [
            ("manifests", &manifests),
            ("layers", &needed),
            ("files", &needed),
        ] {
            let directory = self.directory.join(directory);
            let files = fs::read_dir(&directory).map_err(io_error("list", &directory))?;
            for file in files.flatten() {
                if !needed.contains(file.file_name().to_string_lossy().as_ref()) {
                    remove(&file.path())?;
                }
            }
        }
        Ok(())
    }

    /// A manifest that was accepted when it came: only newer ones must not fall behind the newest.
    fn verify(&self, bytes: &[u8]) -> Result<VerifiedManifest, VerifyError> {
        let keys = std::slice::from_ref(&self.key);
        SignedManifest::parse(bytes)?.verify(&self.channel, keys, 0)
    }

    /// Newest first.
    fn sequences(&self) -> Result<Vec<u64>, ShelfError> {
        let path = self.manifests();
        let files = fs::read_dir(&path)
            .map_err(io_error("list", &path))?
            .flatten();
        let mut sequences: Vec<u64> = files
            .filter_map(|file| file.file_name().to_str()?.parse().ok())
            .collect();
        sequences.sort_unstable_by(|a, b| b.cmp(a));
        Ok(sequences)
    }

    fn manifests(&self) -> PathBuf {
        self.directory.join("manifests")
    }

    fn layer_path(&self, entry: &LayerEntry) -> PathBuf {
        self.directory
            .join("layers")
            .join(HEXLOWER.encode(&entry.sha256))
    }

    /// Where a release file is kept, good or not.
    pub fn file_path(&self, file: &ReleaseFile) -> PathBuf {
        self.directory
            .join("files")
            .join(HEXLOWER.encode(&file.sha256))
    }
}

/// The names of all that a manifest lists.
fn need(manifest: &VerifiedManifest, needed: &mut HashSet<String>) {
    let header = manifest.header();
    let layers = header.layers.iter().map(|entry| &entry.sha256);
    let files = header.files.iter().map(|file| &file.sha256);
    needed.extend(layers.chain(files).map(|sha256| HEXLOWER.encode(sha256)));
}

fn is_file(listed: &ReleaseFile, bytes: &[u8]) -> bool {
    bytes.len() as u64 == listed.length && Sha256::digest(bytes)[..] == listed.sha256
}

/// A kept release file, checked again.
fn read_file(listed: &ReleaseFile, path: PathBuf) -> Option<PlainFile> {
    let bytes = fs::read(&path).ok()?;
    if !is_file(listed, &bytes) {
        return None;
    }
    let info = InfoDict::of_file(&listed.name, &bytes).ok()?.into();
    Some(PlainFile { path, info })
}

fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), ShelfError> {
    write_new(path, bytes, Readers::Owner).map_err(io_error("write", path))
}

fn remove(path: &Path) -> Result<(), ShelfError> {
    fs::remove_file(path).map_err(io_error("remove", path))
}

fn io_error<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ShelfError + 'a {
    move |source| ShelfError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Header;
    use crate::nix::SecretKey;

    /// A release without paths.
    fn manifest(key: &SecretKey, sequence: u64) -> VerifiedManifest {
        let header = Header {
            channel: "lab".parse().unwrap(),
            release: format!("r{sequence}"),
            sequence,
            created: 1,
            expires: 2,
            store_dir: Default::default(),
            systems: vec![],
            layers: vec![],
            files: vec![],
            trackers: vec![],
            seedboxes: vec![],
            bootstrap: vec![],
        };
        let signed = SignedManifest::sign(&header, key).unwrap();
        signed.verify(&header.channel, &[key.public()], 0).unwrap()
    }

    #[test]
    fn damage_is_left_out_and_keeps_no_newer_release_away() {
        let state = tempfile::tempdir().unwrap();
        let key = SecretKey::generate("lab-1").unwrap();
        let shelf = Shelf::open(state.path(), "lab".parse().unwrap(), key.public(), 2).unwrap();
        let loaded = || -> Vec<u64> {
            let releases = shelf.load(&[]).unwrap();
            releases.iter().map(|r| r.header().sequence).collect()
        };
        (1..=3).for_each(|sequence| shelf.put(&manifest(&key, sequence)).unwrap());
        assert_eq!(loaded(), [3, 2]);
        fs::write(shelf.manifests().join("3"), "damage").unwrap();
        fs::write(shelf.manifests().join(".new-killed"), "half").unwrap();
        assert_eq!(loaded(), [2]);
        shelf.put(&manifest(&key, 4)).unwrap();
        assert_eq!(loaded(), [4, 2], "the damaged one takes no place");
        assert_eq!(fs::read_dir(shelf.manifests()).unwrap().count(), 2);
        assert_eq!(shelf.minimum_sequence().unwrap(), 4);
    }
}
