//! Packs rows into the columns of a new layer.

use std::collections::BTreeSet;

use super::cursor::put_varint;
use super::layer::{DERIVER_IN_FULL, MAX_DERIVER_SUFFIX};
use super::layer_columns::{FORMAT, LayerColumns};
use super::references::put_references;
use super::row_signatures::put_signatures;
use super::{NewRow, RowId};

/// Encodes rows that were checked and sorted by hash part, each with its references.
pub fn encode_layer(
    layer: u32,
    system: &str,
    encoder: &str,
    rows: &[(&NewRow, Vec<RowId>)],
) -> Vec<u8> {
    let keys = rows.iter().flat_map(|(row, _)| &row.signatures);
    let keys: BTreeSet<&str> = keys.map(|signature| signature.key_name.as_str()).collect();
    let keys: Vec<&str> = keys.into_iter().collect();
    let mut hash_parts = Vec::with_capacity(rows.len() * 20);
    let mut nar_hashes = Vec::with_capacity(rows.len() * 32);
    let mut info_hashes = Vec::with_capacity(rows.len() * 20);
    let (mut names, mut derivers, mut ca) = (Vec::new(), Vec::new(), Vec::new());
    let (mut nar_sizes, mut payload_lengths) = (Vec::new(), Vec::new());
    let (mut references, mut signatures) = (Vec::new(), Vec::new());
    let mut without_ca = 0;
    for (row, row_references) in rows {
        hash_parts.extend(row.store_path.hash_part().as_bytes());
        nar_hashes.extend(row.nar_hash.as_bytes());
        info_hashes.extend(row.info_hash.as_bytes());
        put_text(&mut names, row.store_path.name());
        put_deriver(&mut derivers, row);
        put_varint(&mut nar_sizes, row.nar_size);
        put_varint(&mut payload_lengths, row.payload_length);
        put_references(&mut references, layer, row_references);
        put_row_signatures(&mut signatures, row, &keys);
        without_ca += 1;
        if let Some(text) = &row.ca {
            put_varint(&mut ca, without_ca - 1);
            put_text(&mut ca, text);
            without_ca = 0;
        }
    }
    let columns = LayerColumns {
        ca: &ca,
        derivers: &derivers,
        encoder,
        format: FORMAT,
        hash_parts: &hash_parts,
        info_hashes: &info_hashes,
        key_names: keys,
        layer,
        names: &names,
        nar_hashes: &nar_hashes,
        nar_sizes: &nar_sizes,
        payload_lengths: &payload_lengths,
        references: &references,
        rows: rows.len() as u32,
        signatures: &signatures,
        system,
    };
    columns.write()
}

/// A store path's name or a content address: both were checked to be shorter than 256 bytes.
fn put_text(out: &mut Vec<u8>, text: &str) {
    out.push(text.len() as u8);
    out.extend_from_slice(text.as_bytes());
}

fn put_deriver(out: &mut Vec<u8>, row: &NewRow) {
    let Some(deriver) = &row.deriver else {
        return out.push(0);
    };
    let stem = deriver
        .name()
        .strip_suffix(".drv")
        .filter(|stem| !stem.is_empty());
    let suffix = stem.and_then(|stem| row.store_path.name().strip_prefix(stem));
    match suffix
        .map(str::len)
        .filter(|len| *len <= MAX_DERIVER_SUFFIX)
    {
        Some(len) => {
            out.push(1 + len as u8);
            out.extend(deriver.hash_part().as_bytes());
        }
        None => {
            out.push(DERIVER_IN_FULL);
            out.extend(deriver.hash_part().as_bytes());
            put_text(out, deriver.name());
        }
    }
}

fn put_row_signatures(out: &mut Vec<u8>, row: &NewRow, keys: &[&str]) {
    let signatures = row.signatures.iter().map(|signature| {
        let name = signature.key_name.as_str();
        let key = keys.partition_point(|key| *key < name) as u64;
        (key, &signature.bytes)
    });
    let sorted: BTreeSet<_> = signatures.collect();
    put_signatures(out, &sorted.into_iter().collect::<Vec<_>>());
}
