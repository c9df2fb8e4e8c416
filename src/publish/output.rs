//! The files of a published release. Each appears whole: the manifest after all that it lists, because it makes them
//! count, and then what points to it.
//!
//! ```text
//! DIR/manifest            the signed header        DIR/layers/SHA256   the layers that it lists
//! DIR/pointer             the BEP 44 item          DIR/files/NAME      release files
//! DIR/magnet              a link to the manifest   DIR/*.torrent       manifest, layers, release files
//! DIR/link                the channel link
//! DIR/ENCODER.sqlite      info dicts of the payloads: what a later run need not encode again
//! DIR/lock                held by the publisher that writes here
//! ```

use std::collections::HashSet;
use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::manifest::{Header, LayerEntry, MAX_FILE_BYTES, Pointer, ReleaseFile, SignedManifest};
use crate::payload::ENCODER_ID;
use crate::runtime::{Readers, remove_leftovers, write_new};
use crate::torrent::{ChannelLink, InfoDict, Magnet, Metainfo};

use super::error::PublishError;

pub struct Output<'a> {
    directory: &'a Path,
    trackers: Vec<String>,
    /// Held as long as this writes.
    _lock: File,
}

impl<'a> Output<'a> {
    /// Makes the directory this publisher's own until this is dropped.
    pub fn create(directory: &'a Path, trackers: Vec<String>) -> Result<Self, PublishError> {
        for path in [
            directory.to_owned(),
            directory.join("layers"),
            directory.join("files"),
        ] {
            fs::create_dir_all(&path).map_err(io_error("create", &path))?;
        }
        let path = directory.join("lock");
        let lock = File::create(&path).map_err(io_error("create", &path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(PublishError::Busy(directory.to_owned())),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &path)(source)),
        }
        remove_leftovers(directory, Duration::ZERO).map_err(io_error("clean", directory))?;
        Ok(Self {
            directory,
            trackers,
            _lock: lock,
        })
    }

    pub fn info_dicts(&self) -> PathBuf {
        self.directory.join(format!("{ENCODER_ID}.sqlite"))
    }

    pub fn layer(&self, entry: &LayerEntry, bytes: &[u8]) -> Result<(), PublishError> {
        let path = self
            .directory
            .join("layers")
            .join(HEXLOWER.encode(&entry.sha256));
        self.write(&path, bytes)?;
        let info = entry
            .info_dict(bytes)
            .map_err(|source| PublishError::Torrent { path, source })?;
        self.torrent(&info)
    }

    /// Copies a release file.
    pub fn file(&self, path: &Path) -> Result<ReleaseFile, PublishError> {
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or_else(|| PublishError::FileName(path.to_owned()))?;
        let bytes = path.metadata().map_err(io_error("read", path))?.len();
        if bytes > MAX_FILE_BYTES {
            let path = path.to_owned();
            return Err(PublishError::FileSize { path, bytes });
        }
        let bytes = fs::read(path).map_err(io_error("read", path))?;
        let info = InfoDict::of_file(name, &bytes);
        let info = info.map_err(|source| PublishError::Torrent {
            path: path.to_owned(),
            source,
        })?;
        self.write(&self.directory.join("files").join(name), &bytes)?;
        self.torrent(&info)?;
        Ok(ReleaseFile {
            name: name.to_owned(),
            length: bytes.len() as u64,
            sha256: Sha256::digest(&bytes).into(),
            info_hash: info.info_hash(),
        })
    }

    /// The manifest and what points to it. A run that ends between them leaves the pointer to the release before.
    pub fn manifest(
        &self,
        manifest: &SignedManifest,
        pointer: &Pointer,
        magnet: &Magnet,
        link: &ChannelLink,
    ) -> Result<(), PublishError> {
        let path = self.directory.join("manifest");
        let info = manifest
            .info_dict()
            .map_err(|source| PublishError::Torrent {
                path: path.clone(),
                source,
            })?;
        self.write(&path, &manifest.encode())?;
        self.torrent(&info)?;
        self.write(&self.directory.join("pointer"), &pointer.encode())?;
        for (name, text) in [("magnet", magnet.to_string()), ("link", link.to_string())] {
            self.write(&self.directory.join(name), format!("{text}\n").as_bytes())?;
        }
        Ok(())
    }

    /// Removes layers, release files and their torrents that the new manifest does not list any more.
    pub fn prune(&self, header: &Header) -> Result<(), PublishError> {
        let layers = header.layers.iter();
        let layers = layers.map(|entry| HEXLOWER.encode(&entry.sha256));
        self.keep("layers", &layers.collect())?;
        let files: HashSet<String> = header.files.iter().map(|file| file.name.clone()).collect();
        let gone = self.keep("files", &files)?;
        let listed = header.layers.iter().map(LayerEntry::torrent_name);
        let listed = listed.chain(files).chain(["manifest".to_owned()]);
        let kept: HashSet<String> = listed.map(|name| torrent_name(&name)).collect();
        let gone: HashSet<String> = gone.iter().map(|name| torrent_name(name)).collect();
        // Other torrents that somebody put there are not ours.
        let is_old = |name: &str| {
            let is_layer = name.starts_with("layer-") && name.ends_with(".torrent");
            (is_layer || gone.contains(name)) && !kept.contains(name)
        };
        self.remove(self.directory, is_old).map(|_| ())
    }

    /// Removes what has none of these names; tells the names of what went.
    fn keep(&self, part: &str, names: &HashSet<String>) -> Result<Vec<String>, PublishError> {
        self.remove(&self.directory.join(part), |name| !names.contains(name))
    }

    fn remove(
        &self,
        directory: &Path,
        is_old: impl Fn(&str) -> bool,
    ) -> Result<Vec<String>, PublishError> {
        let files = fs::read_dir(directory).map_err(io_error("list", directory))?;
        let mut removed = Vec::new();
        for file in files.flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            if is_old(&name) {
                let path = file.path();
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
                removed.push(name);
            }
        }
        Ok(removed)
    }

    fn torrent(&self, info: &InfoDict) -> Result<(), PublishError> {
        let metainfo = Metainfo {
            info: info.clone(),
            trackers: self.trackers.clone(),
        };
        self.write(
            &self.directory.join(torrent_name(&info.name)),
            &metainfo.encode(),
        )
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
        // Seedboxes and web servers read it as other users.
        write_new(path, bytes, Readers::Everybody).map_err(io_error("write", path))
    }
}

fn torrent_name(name: &str) -> String {
    format!("{name}.torrent")
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path = path.to_owned();
    move |source| PublishError::Io {
        action,
        path,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nix::SecretKey;

    /// A release of nothing but these files.
    fn header(files: Vec<ReleaseFile>) -> Header {
        Header {
            channel: "lab".parse().unwrap(),
            release: "r1".to_owned(),
            sequence: 1,
            created: 1,
            expires: 2,
            store_dir: Default::default(),
            systems: vec![],
            layers: vec![],
            files,
            trackers: vec![],
            seedboxes: vec![],
            bootstrap: vec![],
        }
    }

    #[test]
    fn a_manifest_that_cannot_be_written_is_not_pointed_to() {
        let directory = tempfile::tempdir().unwrap();
        let output = Output::create(directory.path(), vec![]).unwrap();
        let key = SecretKey::generate("lab-1").unwrap();
        let manifest = SignedManifest::sign(&header(vec![]), &key).unwrap();
        let info_hash = manifest.info_dict().unwrap().info_hash();
        let pointer = Pointer::sign(&"lab".parse().unwrap(), 1, info_hash, &key).unwrap();
        let magnet = Magnet {
            info_hash,
            name: None,
            length: None,
            trackers: vec![],
            peers: vec![],
        };
        let link = ChannelLink {
            key: key.public().bytes(),
            salt: b"lab".to_vec(),
            peers: vec![],
        };
        let names = ["pointer", "magnet", "link", "manifest.torrent"];
        let count = || names.map(|name| directory.path().join(name).exists());
        fs::create_dir(directory.path().join("manifest")).unwrap();
        assert!(
            output
                .manifest(&manifest, &pointer, &magnet, &link)
                .is_err()
        );
        assert_eq!(count(), [false; 4]);
        fs::remove_dir(directory.path().join("manifest")).unwrap();
        output
            .manifest(&manifest, &pointer, &magnet, &link)
            .unwrap();
        assert_eq!(count(), [true; 4]);
    }

    #[test]
    fn a_second_publisher_is_refused_and_what_a_killed_one_left_goes() {
        let directory = tempfile::tempdir().unwrap();
        let output = Output::create(directory.path(), vec![]).unwrap();
        let second = Output::create(directory.path(), vec![]);
        assert!(matches!(second, Err(PublishError::Busy(_))));
        drop(output);
        let left = directory.path().join(".new-killed");
        fs::write(&left, "half").unwrap();
        Output::create(directory.path(), vec![]).unwrap();
        assert!(!left.exists());
    }

    #[test]
    fn what_is_not_listed_any_more_goes_with_its_torrent() {
        let (directory, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let output = Output::create(directory.path(), vec![]).unwrap();
        let file = |name: &str| {
            let path = from.path().join(name);
            fs::write(&path, name).unwrap();
            output.file(&path).unwrap()
        };
        let (old, new) = (file("old.tar"), file("new.tar"));
        for name in ["layer-1-x.torrent", "mine.torrent", "layers/00"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        output.prune(&header(vec![new])).unwrap();
        let there = |name: &str| directory.path().join(name).exists();
        assert!(there("files/new.tar") && there("new.tar.torrent") && there("mine.torrent"));
        let gone = ["old.tar.torrent", "layer-1-x.torrent", "layers/00"];
        assert!(!gone.iter().any(|name| there(name)) && !there(&format!("files/{}", old.name)));
    }

    #[test]
    fn a_file_that_no_follower_takes_is_refused() {
        let (directory, from) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let output = Output::create(directory.path(), vec![]).unwrap();
        let path = from.path().join("huge");
        let huge = File::create(&path).unwrap();
        huge.set_len(MAX_FILE_BYTES + 1).unwrap();
        let refused = output.file(&path).unwrap_err();
        assert!(
            matches!(refused, PublishError::FileSize { .. }),
            "{refused}"
        );
    }
}
