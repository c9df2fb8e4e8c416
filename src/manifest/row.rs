//! One row of a layer: a store path, its NAR and its payload. A view; the bytes stay the layer's.

use crate::nix::{HashPart, NarHash, Signature, StorePath};
use crate::torrent::InfoHash;

use super::layer::{ca_item, deriver_item, name_item};
use super::references::References;
use super::row_signatures::RowSignatures;
use super::{Layer, RowId};

const PARSED: &str = "Layer::parse walked every item";

#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    layer: &'a Layer,
    row: u32,
}

impl<'a> Row<'a> {
    pub(super) fn new(layer: &'a Layer, row: u32) -> Self {
        Self { layer, row }
    }

    pub fn id(&self) -> RowId {
        RowId {
            layer: self.layer.number,
            row: self.row,
        }
    }

    pub fn hash_part(&self) -> HashPart {
        HashPart::from_bytes(fixed(&self.layer.hash_parts, self.row))
    }

    pub fn name(&self) -> &'a str {
        name_item(&mut self.layer.names.at(self.row)).expect(PARSED)
    }

    pub fn store_path(&self) -> StorePath {
        StorePath::new(self.hash_part(), self.name()).expect(PARSED)
    }

    pub fn nar_hash(&self) -> NarHash {
        NarHash::from_bytes(fixed(&self.layer.nar_hashes, self.row))
    }

    pub fn nar_size(&self) -> u64 {
        self.layer.nar_sizes.at(self.row).varint().expect(PARSED)
    }

    pub fn payload_length(&self) -> u64 {
        self.layer
            .payload_lengths
            .at(self.row)
            .varint()
            .expect(PARSED)
    }

    pub fn payload_name(&self) -> String {
        payload_name(&self.nar_hash())
    }

    pub fn info_hash(&self) -> InfoHash {
        InfoHash::from_bytes(fixed(&self.layer.info_hashes, self.row))
    }

    /// In the order of layers and rows, which is not the order of store paths.
    pub fn references(&self) -> impl Iterator<Item = RowId> + use<'a> {
        let references = References::new(self.layer.references.at(self.row), self.layer.number);
        references.expect(PARSED).map(|id| id.expect(PARSED))
    }

    pub fn signatures(&self) -> impl Iterator<Item = Signature> + use<'a> {
        let signatures = RowSignatures::new(self.layer.signatures.at(self.row)).expect(PARSED);
        let key_names = &self.layer.key_names;
        signatures.map(|signature| {
            let (key, bytes) = signature.expect(PARSED);
            Signature {
                key_name: key_names[key as usize].clone(),
                bytes: *bytes,
            }
        })
    }

    pub fn ca(&self) -> Option<&'a str> {
        let starts = &self.layer.ca_starts;
        let at = starts
            .binary_search_by_key(&self.row, |(row, _)| *row)
            .ok()?;
        let mut cursor = super::cursor::Cursor::new(&self.layer.ca[starts[at].1 as usize..]);
        Some(ca_item(&mut cursor).expect(PARSED))
    }

    pub fn deriver(&self) -> Option<StorePath> {
        deriver_item(&mut self.layer.derivers.at(self.row), self.name()).expect(PARSED)
    }
}

fn fixed<const N: usize>(column: &[u8], row: u32) -> [u8; N] {
    column.as_chunks().0[row as usize]
}

/// The name of the payload of a NAR, and of the one file of its torrent.
pub fn payload_name(nar_hash: &NarHash) -> String {
    format!("{}.nar.zst", nar_hash.base32())
}
