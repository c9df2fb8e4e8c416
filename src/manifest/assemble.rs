//! Makes the layers of a release from the last one's and from what the new one contains.
//!
//! Rows that are already in a layer stay there and keep their ids, a row that comes back is revived; what is new goes
//! into one new layer. The first layer of which less than half is still live, or the first of all when there would be
//! too many, is merged with all later ones into the new layer: only later layers can refer to it, so no id that stays
//! goes stale. Systems do not touch each other: `rows` is all of one system's part of the release, layers of other
//! systems stay as they are, and references stay within a system. Nothing here depends on anything but the arguments:
//! two publishers with the same predecessor and the same rows make the same bytes.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::nix::HashPart;
use crate::torrent::MAX_LENGTH;

use super::layer_encode::encode_layer;
use super::limits::{
    MAX_CA, MAX_KEY_NAMES, MAX_LAYER_BYTES, MAX_LAYERS, MAX_NAR_SIZE, MAX_RELEASE_BYTES, MAX_ROWS,
    MAX_SIGNATURES, is_label,
};
use super::row_signatures::is_key_name;
use super::{AssembleError, Header, Layer, LayerEntry, LiveRows, NewRow, Row, RowId};

/// What a new header lists, and the one layer of it that is new.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    pub layers: Vec<LayerEntry>,
    /// The bytes of the last of `layers`. None when nothing is new.
    pub new_layer: Option<Vec<u8>>,
}

/// Assembles a release; `previous` is the last header and all of its layers, in any order.
pub fn assemble(
    previous: Option<(&Header, &[Layer])>,
    encoder: &str,
    system: &str,
    mut rows: Vec<NewRow>,
) -> Result<Assembled, AssembleError> {
    for (part, value) in [("encoder", encoder), ("system", system)] {
        if !is_label(value) {
            let value = value.to_owned();
            return Err(AssembleError::Label { part, value });
        }
    }
    rows.sort_by_cached_key(|row| row.store_path.hash_part());
    check_rows(&rows)?;
    let entries: &[LayerEntry] = previous.map_or(&[], |(header, _)| &header.layers);
    let by_number = layers_of(previous)?;
    let own: Vec<&LayerEntry> = entries
        .iter()
        .filter(|entry| entry.system == system)
        .collect();

    let mut places = places(&rows, &own, &by_number);
    let anything_new = places.iter().any(Option::is_none);
    let merged = first_to_merge(&places, &own, anything_new && entries.len() == MAX_LAYERS);
    if let Some(first) = merged {
        for place in &mut places {
            *place = place.filter(|place| place.layer < first);
        }
    }
    // Layers that would only vanish stay: the number of the last one must not be given out again.
    let merged = merged.filter(|_| places.iter().any(Option::is_none));
    let live: BTreeSet<RowId> = places.iter().flatten().copied().collect();
    let mut layers = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        let mut entry = entry.clone();
        if entry.system == system {
            if merged.is_some_and(|first| entry.number >= first) {
                continue;
            }
            let layer = entry.number;
            entry.live = LiveRows::of(entry.rows, |row| live.contains(&RowId { layer, row }));
        }
        layers.push(entry);
    }
    if places.iter().all(Option::is_some) {
        return Ok(Assembled {
            layers,
            new_layer: None,
        });
    }
    let number = match entries.last() {
        None => 1,
        Some(last) => last.number.checked_add(1).ok_or(AssembleError::NoNumber)?,
    };
    let encoded = new_layer(number, system, encoder, &rows, &places)?;
    let count = places.iter().filter(|place| place.is_none()).count() as u32;
    layers.push(LayerEntry::of_new(number, system, count, &encoded)?);
    if layers.len() > MAX_LAYERS {
        return Err(AssembleError::TooManyLayers(layers.len()));
    }
    let bytes = layers.iter().map(|layer| layer.length).sum();
    if bytes > MAX_RELEASE_BYTES {
        return Err(AssembleError::ReleaseTooLarge(bytes));
    }
    Ok(Assembled {
        layers,
        new_layer: Some(encoded),
    })
}

/// Everything that a layer could not hold, and references that leave the release.
fn check_rows(rows: &[NewRow]) -> Result<(), AssembleError> {
    if let Some(pair) = rows
        .windows(2)
        .find(|pair| hash_part(&pair[0]) == hash_part(&pair[1]))
    {
        let path = pair[1].store_path.clone();
        return Err(AssembleError::Twice { path });
    }
    for row in rows {
        let ca = row.ca.as_deref().unwrap_or("none");
        let faults = [
            (
                "NAR size",
                !(1..=MAX_NAR_SIZE).contains(&row.nar_size),
                "is zero or too large",
            ),
            (
                "payload length",
                !(1..=MAX_LENGTH).contains(&row.payload_length),
                "is zero or too large",
            ),
            (
                "signatures",
                row.signatures.len() > MAX_SIGNATURES,
                "are more than a row may have",
            ),
            (
                "signatures",
                !row.signatures.iter().all(|one| is_key_name(&one.key_name)),
                "have one whose key name is none",
            ),
            (
                "content address",
                !(1..=MAX_CA).contains(&ca.len()),
                "is empty or too long",
            ),
            (
                "content address",
                !ca.bytes().all(|byte| byte.is_ascii_graphic()),
                "is not printable ASCII",
            ),
        ];
        if let Some((field, _, reason)) = faults.into_iter().find(|(_, faulty, _)| *faulty) {
            let path = row.store_path.clone();
            return Err(AssembleError::Row {
                path,
                field,
                reason,
            });
        }
        for reference in &row.references {
            let at = rows
                .binary_search_by_key(&reference.hash_part(), hash_part)
                .ok();
            if at.is_none_or(|at| rows[at].store_path != *reference) {
                let (path, reference) = (row.store_path.clone(), reference.clone());
                return Err(AssembleError::Open { path, reference });
            }
        }
    }
    Ok(())
}

/// The layers of the previous header by number: all there, each the one listed, no reference leading out.
fn layers_of<'a>(
    previous: Option<(&Header, &'a [Layer])>,
) -> Result<BTreeMap<u32, &'a Layer>, AssembleError> {
    let Some((header, layers)) = previous else {
        return Ok(BTreeMap::new());
    };
    let by_number: BTreeMap<_, _> = layers.iter().map(|layer| (layer.number(), layer)).collect();
    for entry in &header.layers {
        let layer = by_number.get(&entry.number);
        layer
            .ok_or(AssembleError::MissingLayer(entry.number))?
            .check_references(header)?;
    }
    Ok(by_number)
}

/// Where each row stands already: the first live row that is the same, or else the last dead one.
fn places(
    rows: &[NewRow],
    own: &[&LayerEntry],
    layers: &BTreeMap<u32, &Layer>,
) -> Vec<Option<RowId>> {
    let place = |row: &NewRow| {
        let mut dead = None;
        for entry in own {
            let layer = layers[&entry.number];
            let Some(found) = layer.find(&hash_part(row)).and_then(|at| layer.row(at)) else {
                continue;
            };
            if !is_same(row, &found, layers) {
                continue;
            }
            if entry.is_live(found.id().row) {
                return Some(found.id());
            }
            dead = Some(found.id());
        }
        dead
    };
    rows.iter().map(place).collect()
}

fn is_same(new: &NewRow, old: &Row<'_>, layers: &BTreeMap<u32, &Layer>) -> bool {
    let signatures = || {
        let sorted = |signatures: Vec<_>| {
            signatures
                .into_iter()
                .collect::<BTreeSet<(String, [u8; 64])>>()
        };
        let new = new
            .signatures
            .iter()
            .map(|one| (one.key_name.clone(), one.bytes));
        let old = old.signatures().map(|one| (one.key_name, one.bytes));
        sorted(new.collect()) == sorted(old.collect())
    };
    let references = || {
        let row = |id: RowId| layers.get(&id.layer).and_then(|layer| layer.row(id.row));
        let old: Option<BTreeSet<_>> = old
            .references()
            .map(|id| Some(row(id)?.store_path()))
            .collect();
        old.is_some_and(|old| old == new.references.iter().cloned().collect())
    };
    new.store_path.name() == old.name()
        && new.nar_hash == old.nar_hash()
        && new.nar_size == old.nar_size()
        && new.payload_length == old.payload_length()
        && new.info_hash == old.info_hash()
        && new.ca.as_deref() == old.ca()
        && new.deriver == old.deriver()
        && signatures()
        && references()
}

/// The number of the first layer to be merged, if any is.
fn first_to_merge(places: &[Option<RowId>], own: &[&LayerEntry], too_many: bool) -> Option<u32> {
    let mut live = HashMap::<u32, u32>::new();
    for place in places.iter().flatten() {
        *live.entry(place.layer).or_default() += 1;
    }
    let mostly_dead = |entry: &&&LayerEntry| {
        let live = live.get(&entry.number).copied().unwrap_or(0);
        u64::from(live) * 2 < u64::from(entry.rows)
    };
    let first = own
        .iter()
        .find(mostly_dead)
        .or(own.first().filter(|_| too_many));
    first.map(|entry| entry.number)
}

fn new_layer(
    number: u32,
    system: &str,
    encoder: &str,
    rows: &[NewRow],
    places: &[Option<RowId>],
) -> Result<Vec<u8>, AssembleError> {
    let mut next = 0;
    let ids: Vec<RowId> = places
        .iter()
        .map(|place| {
            place.unwrap_or_else(|| {
                next += 1;
                RowId {
                    layer: number,
                    row: next - 1,
                }
            })
        })
        .collect();
    if next > MAX_ROWS {
        return Err(AssembleError::TooManyRows(next as usize));
    }
    let id_of = |part: &HashPart| {
        let at = rows.binary_search_by_key(part, hash_part);
        ids[at.expect("check_rows found every reference")]
    };
    let new = rows.iter().zip(places).filter(|(_, place)| place.is_none());
    let new: Vec<_> = new
        .map(|(row, _)| {
            let references = row.references.iter().map(|path| id_of(&path.hash_part()));
            (row, references.collect())
        })
        .collect();
    let keys: BTreeSet<_> = new
        .iter()
        .flat_map(|(row, _)| &row.signatures)
        .map(|one| &one.key_name)
        .collect();
    if keys.len() > MAX_KEY_NAMES {
        return Err(AssembleError::TooManyKeys(keys.len()));
    }
    let encoded = encode_layer(number, system, encoder, &new);
    match encoded.len() > MAX_LAYER_BYTES {
        true => Err(AssembleError::TooLarge(encoded.len())),
        false => Ok(encoded),
    }
}

fn hash_part(row: &NewRow) -> HashPart {
    row.store_path.hash_part()
}
