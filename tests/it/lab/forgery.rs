//! A release as a publisher without honesty would write it: any bytes, and the channel's own signature over them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use data_encoding::HEXLOWER;
use narswarm::{
    manifest::{Header, Layer, NewRow, Row, SignedManifest, assemble},
    nix::SecretKey,
};
use sha2::{Digest, Sha256};

const DOMAIN: &[u8] = b"narswarm manifest 1\n";

/// The files of one release, to be changed.
pub struct Forgery {
    pub directory: PathBuf,
}

impl Forgery {
    /// On a copy of a published release.
    pub fn of(release: &Path, directory: PathBuf) -> Self {
        install(release, &directory);
        Self { directory }
    }

    pub fn manifest(&self) -> Vec<u8> {
        fs::read(self.directory.join("manifest")).unwrap()
    }

    pub fn set_manifest(&self, bytes: &[u8]) {
        fs::write(self.directory.join("manifest"), bytes).unwrap();
    }

    /// The signed part of the manifest.
    pub fn header(&self) -> Vec<u8> {
        let manifest = self.manifest();
        let (_, range) = bytes_at(&manifest, b"6:header");
        manifest[range].to_vec()
    }

    /// Signs `header`, whatever it says.
    pub fn sign(&self, header: &[u8], secret_key: &Path) {
        let signature = key(secret_key).sign(&[DOMAIN, header].concat()).to_string();
        let start = format!("d6:header{}:", header.len());
        let end = format!("10:signaturesl{}:{signature}ee", signature.len());
        self.set_manifest(&[start.as_bytes(), header, end.as_bytes()].concat());
    }

    /// The file of the layer that the header lists last.
    pub fn last_layer(&self) -> PathBuf {
        let header = self.header();
        let (at, _) = bytes_at(&header, b"6:sha256");
        self.directory
            .join("layers")
            .join(HEXLOWER.encode(&header[at..at + 32]))
    }

    /// Changes the rows of a release of one layer, and signs the result.
    pub fn change_rows(&self, secret_key: &Path, change: impl FnOnce(&mut Vec<NewRow>)) {
        let key = key(secret_key);
        let channel = "lab".parse().unwrap();
        let manifest = SignedManifest::parse(&self.manifest()).unwrap();
        let manifest = manifest.verify(&channel, &[key.public()], 0).unwrap();
        let header = manifest.header();
        let bytes = fs::read(self.last_layer()).unwrap();
        let layer = Layer::parse(bytes.into(), &header.layers[0]).unwrap();
        let mut rows: Vec<NewRow> = layer.rows().map(|row| new_row(&layer, &row)).collect();
        change(&mut rows);
        let system = &header.layers[0].system;
        let made = assemble(None, layer.encoder(), system, rows).unwrap();
        let header = Header {
            layers: made.layers,
            ..header.clone()
        };
        self.set_manifest(&SignedManifest::sign(&header, &key).unwrap().encode());
        fs::write(self.last_layer(), made.new_layer.unwrap()).unwrap();
    }

    /// Puts `layer` in the place of the last one, and signs a header that says so.
    pub fn replace_last_layer(&self, layer: &[u8], secret_key: &Path) {
        fs::remove_file(self.last_layer()).unwrap();
        let (mut header, digest) = (self.header(), Sha256::digest(layer));
        let (_, range) = bytes_at(&header, b"6:sha256");
        header.splice(range, digest);
        let header = with_number(&header, "6:length", layer.len() as u64);
        self.sign(&header, secret_key);
        fs::write(self.last_layer(), layer).unwrap();
    }
}

/// A row of the only layer of a release, as its publisher gave it.
fn new_row(layer: &Layer, row: &Row<'_>) -> NewRow {
    NewRow {
        store_path: row.store_path(),
        nar_hash: row.nar_hash(),
        nar_size: row.nar_size(),
        payload_length: row.payload_length(),
        info_hash: row.info_hash(),
        references: row
            .references()
            .map(|id| layer.row(id.row).unwrap().store_path())
            .collect(),
        signatures: row.signatures().collect(),
        ca: row.ca().map(str::to_owned),
        deriver: row.deriver(),
    }
}

fn key(secret_key: &Path) -> SecretKey {
    fs::read_to_string(secret_key)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

/// Copies a release over another, in the order in which `publish` writes it.
pub fn install(release: &Path, directory: &Path) {
    fs::create_dir_all(directory.join("layers")).unwrap();
    for layer in fs::read_dir(release.join("layers")).unwrap().flatten() {
        fs::copy(
            layer.path(),
            directory.join("layers").join(layer.file_name()),
        )
        .unwrap();
    }
    let new = directory.join("manifest.new");
    fs::copy(release.join("manifest"), &new).unwrap();
    fs::rename(new, directory.join("manifest")).unwrap();
}

/// Where the byte string after the last `key` starts, and the same as a range.
pub fn bytes_at(bencode: &[u8], key: &[u8]) -> (usize, std::ops::Range<usize>) {
    let at = find_last(bencode, key) + key.len();
    let digits = bencode[at..]
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let length: usize = std::str::from_utf8(&bencode[at..at + digits])
        .unwrap()
        .parse()
        .unwrap();
    let start = at + digits + 1;
    (start, start..start + length)
}

/// With another number after the last `key`.
pub fn with_number(bencode: &[u8], key: &str, number: u64) -> Vec<u8> {
    let at = find_last(bencode, key.as_bytes()) + key.len();
    let end = at + bencode[at..].iter().position(|byte| *byte == b'e').unwrap();
    [
        &bencode[..at],
        format!("i{number}").as_bytes(),
        &bencode[end..],
    ]
    .concat()
}

fn find_last(bytes: &[u8], key: &[u8]) -> usize {
    let found = bytes.windows(key.len()).rposition(|window| window == key);
    found.unwrap_or_else(|| panic!("no {} in {}", key.escape_ascii(), bytes.escape_ascii()))
}
