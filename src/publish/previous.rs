//! The predecessor of a release: its header and layers, as an earlier `publish` wrote them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use data_encoding::HEXLOWER;

use crate::manifest::{ChannelName, Header, Layer, SignedManifest, VerifyError};
use crate::nix::{HashPart, NarHash, PublicKey};
use crate::payload::ENCODER_ID;
use crate::torrent::InfoHash;

use super::error::PublishError;

pub struct Previous {
    pub header: Header,
    pub layers: Vec<Layer>,
    /// The layers as they were read, in the same order.
    pub encoded: Vec<Bytes>,
}

impl Previous {
    /// `None` when the directory has no manifest. One that is there must be this channel's, by this key.
    pub fn read(
        directory: &Path,
        channel: &ChannelName,
        key: &PublicKey,
    ) -> Result<Option<Self>, PublishError> {
        let path = directory.join("manifest");
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(io_error("read", &path))?,
        };
        let occupied = |of| PublishError::Occupied {
            directory: directory.to_owned(),
            of,
        };
        let refused = |error| match error {
            VerifyError::WrongChannel { found, .. } => occupied(format!("channel {found}")),
            VerifyError::UnknownKey { found, .. } => {
                occupied(format!("a channel that {found} signs"))
            }
            VerifyError::BadSignature(name) => occupied(format!(
                "another channel, or damaged ones (the signature by {name} is not by this key)"
            )),
            source => PublishError::Previous {
                path: path.clone(),
                source,
            },
        };
        let manifest = SignedManifest::parse(&bytes).map_err(refused)?;
        let manifest = manifest
            .verify(channel, std::slice::from_ref(key), 0)
            .map_err(refused)?;
        let header = manifest.header().clone();
        let mut layers = Vec::with_capacity(header.layers.len());
        let mut encoded = Vec::with_capacity(header.layers.len());
        for entry in &header.layers {
            let path = directory
                .join("layers")
                .join(HEXLOWER.encode(&entry.sha256));
            let bytes = Bytes::from(fs::read(&path).map_err(io_error("read", &path))?);
            let layer = Layer::parse(bytes.clone(), entry);
            encoded.push(bytes);
            let number = entry.number;
            layers.push(layer.map_err(|source| PublishError::PreviousLayer {
                path,
                number,
                source,
            })?);
        }
        Ok(Some(Self {
            header,
            layers,
            encoded,
        }))
    }

    /// The payload of a NAR that some row already describes.
    pub fn payload(&self, hash_part: &HashPart, nar_hash: &NarHash) -> Option<(u64, InfoHash)> {
        let ours = self
            .layers
            .iter()
            .filter(|layer| layer.encoder() == ENCODER_ID);
        let mut rows = ours.filter_map(|layer| layer.row(layer.find(hash_part)?));
        rows.find(|row| row.nar_hash() == *nar_hash)
            .map(|row| (row.payload_length(), row.info_hash()))
    }
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PublishError {
    let path: PathBuf = path.to_owned();
    move |source| PublishError::Io {
        action,
        path,
        source,
    }
}
