//! Small, deterministic releases for the other files.

use std::collections::BTreeMap;

use bytes::Bytes;
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use narswarm::manifest::{Assembled, Header, Layer, LayerEntry, NewRow, ReleaseFile, Row, RowId};
use narswarm::nix::{HashPart, NarHash, SecretKey, Signature, StoreDir, StorePath};
use narswarm::torrent::InfoHash;
use sha2::{Digest as _, Sha256};

pub const ENCODER: &str = "nar-zstd-test";
pub const SYSTEM: &str = "x86_64-linux";

/// A key that is the same in every run.
pub fn key(name: &str) -> SecretKey {
    let seed: [u8; 32] = Sha256::digest(name).into();
    let pair = SigningKey::from_bytes(&seed).to_keypair_bytes();
    format!("{name}:{}", BASE64.encode(&pair)).parse().unwrap()
}

/// 20 bytes that look random.
fn digest(text: &str) -> [u8; 20] {
    Sha256::digest(text)[..20].try_into().unwrap()
}

pub fn path(name: &str) -> StorePath {
    StorePath::new(HashPart::from_bytes(digest(name)), name).unwrap()
}

/// A row of `name`; another `content` is another NAR under the same store path.
pub fn row(name: &str, content: u8, references: &[&str]) -> NewRow {
    let seed = format!("{name} {content}");
    let mut bytes = [content; 64];
    bytes[..20].copy_from_slice(&digest(name));
    NewRow {
        store_path: path(name),
        nar_hash: NarHash::from_bytes(Sha256::digest(&seed).into()),
        nar_size: 100_000 + u64::from(content),
        payload_length: 30_000 + u64::from(content),
        info_hash: InfoHash::from_bytes(digest(&seed)),
        references: references.iter().map(|name| path(name)).collect(),
        signatures: vec![Signature {
            key_name: "cache.example-1".into(),
            bytes,
        }],
        ca: None,
        deriver: None,
    }
}

/// Rows that use every form that a column has.
pub fn rows() -> Vec<NewRow> {
    let mut glibc = row("glibc-2.40", 0, &["glibc-2.40"]);
    glibc.deriver = Some(path("glibc-2.40.drv"));
    let mut dev = row("openssl-3.3.1-dev", 0, &["glibc-2.40", "openssl-3.3.1"]);
    dev.deriver = Some(path("openssl-3.3.1.drv"));
    dev.signatures.push(Signature {
        key_name: "another-1".into(),
        bytes: [9; 64],
    });
    let mut openssl = row("openssl-3.3.1", 0, &["glibc-2.40", "openssl-3.3.1"]);
    openssl.deriver = Some(path("other-name.drv"));
    let mut source = row("source", 0, &[]);
    source.signatures.clear();
    source.ca = Some("fixed:r:sha256:1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s".into());
    vec![glibc, dev, openssl, source]
}

/// The header of a release with these layers.
pub fn header(sequence: u64, layers: Vec<LayerEntry>) -> Header {
    Header {
        channel: "example-unstable".parse().unwrap(),
        release: format!("24.05pre{sequence}"),
        sequence,
        created: 1_700_000_000 + sequence,
        expires: 1_702_592_000 + sequence,
        store_dir: StoreDir::default(),
        systems: vec![SYSTEM.into(), "aarch64-linux".into()],
        layers,
        files: vec![ReleaseFile {
            name: "nixexprs.tar.xz".into(),
            length: 42,
            sha256: [3; 32],
            info_hash: InfoHash::from_bytes([4; 20]),
        }],
        trackers: vec!["http://192.0.2.3:6969/announce".parse().unwrap()],
        seedboxes: vec!["192.0.2.2:6881".parse().unwrap()],
        bootstrap: vec!["[2001:db8::1]:6881".parse().unwrap()],
    }
}

/// A header and its parsed layers.
pub struct Release {
    pub header: Header,
    pub layers: Vec<Layer>,
    /// Every layer's bytes, by number.
    pub encoded: BTreeMap<u32, Bytes>,
}

impl Release {
    /// What a reader has after fetching the layers of `assembled`, given those it had.
    pub fn fetch(sequence: u64, assembled: Assembled, had: BTreeMap<u32, Bytes>) -> Self {
        let mut encoded = had;
        if let Some(bytes) = assembled.new_layer {
            encoded.insert(assembled.layers.last().unwrap().number, bytes.into());
        }
        encoded.retain(|number, _| assembled.layers.iter().any(|entry| entry.number == *number));
        let header = header(sequence, assembled.layers);
        let parse =
            |entry: &LayerEntry| Layer::parse(encoded[&entry.number].clone(), entry).unwrap();
        let layers: Vec<Layer> = header.layers.iter().map(parse).collect();
        layers
            .iter()
            .for_each(|layer| layer.check_references(&header).unwrap());
        Self {
            header,
            layers,
            encoded,
        }
    }

    pub fn row(&self, id: RowId) -> Row<'_> {
        let layer = self
            .layers
            .iter()
            .find(|layer| layer.number() == id.layer)
            .unwrap();
        layer.row(id.row).unwrap()
    }

    /// The live rows of a system as a publisher would have given them, and their ids.
    pub fn live(&self, system: &str) -> BTreeMap<StorePath, (RowId, NewRow)> {
        let mut live = BTreeMap::new();
        for (entry, layer) in self.header.layers.iter().zip(&self.layers) {
            for row in layer
                .rows()
                .filter(|row| entry.system == system && entry.is_live(row.id().row))
            {
                let before = live.insert(row.store_path(), (row.id(), self.new_row(row)));
                assert!(before.is_none(), "{} is live twice", row.store_path());
            }
        }
        live
    }

    fn new_row(&self, row: Row<'_>) -> NewRow {
        normal(NewRow {
            store_path: row.store_path(),
            nar_hash: row.nar_hash(),
            nar_size: row.nar_size(),
            payload_length: row.payload_length(),
            info_hash: row.info_hash(),
            references: row
                .references()
                .map(|id| self.row(id).store_path())
                .collect(),
            signatures: row.signatures().collect(),
            ca: row.ca().map(str::to_owned),
            deriver: row.deriver(),
        })
    }
}

/// Sets have no order: put them in one.
pub fn normal(mut row: NewRow) -> NewRow {
    row.references.sort();
    row.signatures
        .sort_by_key(|signature| (signature.key_name.clone(), signature.bytes));
    row
}
