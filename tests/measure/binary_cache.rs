//! A binary cache as `nix copy` makes one: narinfos and compressed NARs in a directory, for any web server.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use data_encoding::HEXLOWER;
use narswarm::nix::{Narinfo, SecretKey, StoreDir};
use narswarm::store::{NarReader, scan};
use sha2::{Digest, Sha256};

use crate::chroot_store::{ChrootStore, StoredPath};
use crate::in_parallel::in_parallel;
use crate::nix_copy::Compression;

/// As cache.nixos.org's own says.
const CACHE_INFO: &str = "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n";

/// Everything in `store`. Returns the bytes of the NAR files.
pub fn write(
    store: &ChrootStore,
    key: &SecretKey,
    compression: Compression,
    directory: &Path,
) -> u64 {
    fs::create_dir_all(directory.join("nar")).unwrap();
    fs::write(directory.join("nix-cache-info"), CACHE_INFO).unwrap();
    // The largest are last in a closure's store: they would leave the other cores without work.
    let paths: Vec<&StoredPath> = store.paths.iter().rev().collect();
    let root = store.root.as_path();
    in_parallel(&paths, |path| {
        let nar = nar(root, path);
        let extension = match compression {
            Compression::Zstd => "zst",
            Compression::Xz => "xz",
        };
        let compressed = compression.compress(&nar);
        let url = format!("nar/{}.nar.{extension}", path.nar_hash.base32());
        fs::write(directory.join(&url), &compressed).unwrap();
        let compression = compression.uri_value();
        let narinfo = narinfo(path, url, compression, &compressed, key);
        let file = format!("{}.narinfo", path.store_path.hash_part());
        fs::write(directory.join(file), narinfo.to_string()).unwrap();
        compressed.len() as u64
    })
}

/// The raw NARs as files, named as the shim names them.
pub fn write_shim_files(store: &ChrootStore, directory: &Path) {
    fs::create_dir_all(directory.join("nar")).unwrap();
    for path in &store.paths {
        let file = directory.join(shim_url(path).trim_start_matches('/'));
        let mut file = File::create(file).unwrap();
        io::copy(&mut open(&store.root, path), &mut file).unwrap();
    }
}

pub fn shim_url(path: &StoredPath) -> String {
    let hash_part = path.store_path.hash_part();
    format!("/nar/{hash_part}-{}.nar", path.nar_hash.base32())
}

fn narinfo(
    path: &StoredPath,
    url: String,
    compression: &str,
    compressed: &[u8],
    key: &SecretKey,
) -> Narinfo {
    let file_hash = HEXLOWER.encode(&Sha256::digest(compressed));
    let mut narinfo = Narinfo {
        store_dir: StoreDir::default(),
        store_path: path.store_path.clone(),
        url,
        compression: compression.to_owned(),
        file_hash: Some(format!("sha256:{file_hash}")),
        file_size: Some(compressed.len() as u64),
        nar_hash: path.nar_hash,
        nar_size: path.nar_size,
        references: path.references.clone(),
        deriver: None,
        signatures: Vec::new(),
        ca: None,
    };
    narinfo.signatures = vec![key.sign(narinfo.fingerprint().as_bytes())];
    narinfo
}

fn nar(root: &Path, path: &StoredPath) -> Vec<u8> {
    let mut nar = Vec::with_capacity(path.nar_size as usize);
    open(root, path).read_to_end(&mut nar).unwrap();
    nar
}

fn open(root: &Path, path: &StoredPath) -> NarReader {
    let real = root.join("nix/store").join(path.store_path.base_name());
    NarReader::open(scan(&real).unwrap())
}
