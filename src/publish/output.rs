//! The files of a published release. Each appears whole; the manifest last, because it makes the others count.
//!
//! ```text
//! DIR/manifest            the signed header        DIR/layers/SHA256   the layers that it lists
//! DIR/pointer             the BEP 44 item          DIR/files/NAME      release files
//! DIR/magnet              a link to the manifest   DIR/*.torrent       manifest, layers, release files
//! DIR/ENCODER.sqlite      info dicts of the payloads: what a later run need not encode again
//! ```

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::manifest::{LayerEntry, Pointer, ReleaseFile, SignedManifest};
use crate::payload::ENCODER_ID;
use crate::torrent::{InfoDict, Magnet, Metainfo};

use super::error::PublishError;

pub struct Output<'a> {
    directory: &'a Path,
    trackers: Vec<String>,
}

impl<'a> Output<'a> {
    pub fn create(directory: &'a Path, trackers: Vec<String>) -> Result<Self, PublishError> {
        for path in [
            directory.to_owned(),
            directory.join("layers"),
            directory.join("files"),
        ] {
            fs::create_dir_all(&path).map_err(|source| PublishError::Io {
                action: "create",
                path,
                source,
            })?;
        }
        Ok(Self {
            directory,
            trackers,
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
        let read = fs::read(path);
        let bytes = read.map_err(|source| PublishError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        })?;
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

    /// The manifest and what points to it. Returns the link.
    pub fn manifest(
        &self,
        manifest: &SignedManifest,
        pointer: &Pointer,
        magnet: &Magnet,
    ) -> Result<(), PublishError> {
        let path = self.directory.join("manifest");
        let info = manifest
            .info_dict()
            .map_err(|source| PublishError::Torrent {
                path: path.clone(),
                source,
            })?;
        self.torrent(&info)?;
        self.write(&self.directory.join("pointer"), &pointer.encode())?;
        self.write(
            &self.directory.join("magnet"),
            format!("{magnet}\n").as_bytes(),
        )?;
        self.write(&path, &manifest.encode())
    }

    /// Removes layers that the new manifest does not list any more.
    pub fn prune(&self, layers: &[LayerEntry]) -> Result<(), PublishError> {
        let directory = self.directory.join("layers");
        let listed = fs::read_dir(&directory);
        for file in listed
            .map_err(|source| PublishError::Io {
                action: "list",
                path: directory,
                source,
            })?
            .flatten()
        {
            let name = file.file_name();
            if !layers
                .iter()
                .any(|entry| HEXLOWER.encode(&entry.sha256) == name.to_string_lossy())
            {
                let path = file.path();
                fs::remove_file(&path).map_err(|source| PublishError::Io {
                    action: "remove",
                    path,
                    source,
                })?;
            }
        }
        Ok(())
    }

    fn torrent(&self, info: &InfoDict) -> Result<(), PublishError> {
        let metainfo = Metainfo {
            info: info.clone(),
            trackers: self.trackers.clone(),
        };
        self.write(
            &self.directory.join(format!("{}.torrent", info.name)),
            &metainfo.encode(),
        )
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), PublishError> {
        let write = || -> io::Result<()> {
            let mut file = tempfile::Builder::new()
                .prefix(".new-")
                .tempfile_in(path.parent().unwrap_or(self.directory))?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            // Seedboxes and web servers read it as other users.
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.persist(path)?;
            Ok(())
        };
        write().map_err(|source| PublishError::Io {
            action: "write",
            path: path.to_owned(),
            source,
        })
    }
}
