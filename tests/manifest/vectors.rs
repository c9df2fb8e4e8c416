//! Real path infos of cache.nixos.org go through a layer and their signatures still verify.

use std::collections::BTreeSet;
use std::path::PathBuf;

use narswarm::manifest::{NewRow, assemble};
use narswarm::nix::{PublicKey, StoreDir, StorePath, fingerprint};
use narswarm::torrent::InfoHash;
use serde_json::Value;

use crate::sample::{ENCODER, Release, SYSTEM};

const KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// Where the vectors are unless `NARSWARM_VECTORS` says otherwise; they are not part of this repository.
const VECTORS: &str = "/work/shared/vectors";

fn new_row(info: &Value) -> NewRow {
    let dir = StoreDir::default();
    let path = |value: &Value| {
        let text = value.as_str().unwrap();
        StorePath::parse(&dir, text)
            .or_else(|_| StorePath::parse_base_name(text))
            .unwrap()
    };
    let store_path = path(&info["storePath"]);
    let nar_size = info["narSize"].as_u64().unwrap();
    NewRow {
        nar_hash: info["narHash"].as_str().unwrap().parse().unwrap(),
        nar_size,
        payload_length: nar_size.div_ceil(3),
        info_hash: InfoHash::of(store_path.base_name().as_bytes()),
        references: info["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(path)
            .collect(),
        signatures: info["signatures"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().parse().unwrap())
            .collect(),
        ca: info["ca"].as_str().map(str::to_owned),
        deriver: info["deriver"]
            .as_str()
            .map(|text| path(&Value::from(text))),
        store_path,
    }
}

#[test]
fn signatures_of_real_rows_verify() {
    let dir = std::env::var_os("NARSWARM_VECTORS").map_or(PathBuf::from(VECTORS), PathBuf::from);
    let Ok(text) = std::fs::read(dir.join("path-info-cache.nixos.org.json")) else {
        eprintln!(
            "not run: {} has no path-info-cache.nixos.org.json",
            dir.display()
        );
        return;
    };
    let infos: Vec<Value> = serde_json::from_slice(&text).unwrap();
    let mut rows: Vec<NewRow> = infos.iter().map(new_row).collect();
    // The vectors are whole closures; should one not be, its row cannot be part of a release.
    let count = rows.len();
    let paths: BTreeSet<StorePath> = rows.iter().map(|row| row.store_path.clone()).collect();
    rows.retain(|row| {
        row.references
            .iter()
            .all(|reference| paths.contains(reference))
    });
    assert_eq!(rows.len(), count);

    let assembled = assemble(None, ENCODER, SYSTEM, rows).unwrap();
    let bytes = assembled.new_layer.as_ref().unwrap().len();
    let release = Release::fetch(1, assembled, Default::default());
    let key: PublicKey = KEY.parse().unwrap();
    for (path, (_, row)) in release.live(SYSTEM) {
        let message = fingerprint(
            &StoreDir::default(),
            &path,
            &row.nar_hash,
            row.nar_size,
            &row.references,
        );
        let verifies = |signature| key.verify(message.as_bytes(), signature);
        assert!(row.signatures.iter().any(verifies), "{path}");
    }
    eprintln!("{count} real rows, {} bytes each", bytes / count);
}
