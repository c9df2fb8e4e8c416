//! A layer as it is kept in memory: the bytes that were fetched, and for each row where its items start.
//!
//! Everything is checked once, in `parse`; afterwards no access can fail. `layer_columns.rs` describes the format.

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::nix::{HashPart, StorePath};
use crate::torrent::{InfoHash, MAX_LENGTH};

use super::column::Column;
use super::cursor::{Cursor, Fault};
use super::layer_columns::{FORMAT, LayerColumns};
use super::limits::{MAX_LAYERS, MAX_NAR_SIZE, is_label};
use super::references::References;
use super::row_signatures::{RowSignatures, is_key_name};
use super::{Header, LayerEntry, LayerError, Row};

pub struct Layer {
    pub(super) number: u32,
    rows: u32,
    sha256: [u8; 32],
    encoder: String,
    pub(super) key_names: Vec<String>,
    pub(super) hash_parts: Bytes,
    pub(super) nar_hashes: Bytes,
    pub(super) info_hashes: Bytes,
    pub(super) names: Column,
    pub(super) derivers: Column,
    pub(super) nar_sizes: Column,
    pub(super) payload_lengths: Column,
    pub(super) references: Column,
    pub(super) signatures: Column,
    pub(super) ca: Bytes,
    /// Row and start of its item, for the few rows that have one.
    pub(super) ca_starts: Vec<(u32, u32)>,
    /// Rows in the order of their info hashes.
    by_info_hash: Vec<u32>,
    /// The highest row that is referred to in each earlier layer.
    referred: BTreeMap<u32, u32>,
}

impl Layer {
    /// Takes the bytes that `entry` names and nothing else. Whether the layers that it refers to are there depends on
    /// the header: `check_references` tells.
    pub fn parse(bytes: Bytes, entry: &LayerEntry) -> Result<Self, LayerError> {
        let number = entry.number;
        let found = bytes.len() as u64;
        if found != entry.length {
            let expected = entry.length;
            return Err(LayerError::Length {
                number,
                found,
                expected,
            });
        }
        let sha256 = <[u8; 32]>::from(Sha256::digest(&bytes));
        if sha256 != entry.sha256 {
            return Err(LayerError::Digest {
                number,
                found: HEXLOWER.encode(&sha256),
                expected: HEXLOWER.encode(&entry.sha256),
            });
        }
        let columns = LayerColumns::read(&bytes);
        let columns = columns.map_err(|source| LayerError::Bencode { number, source })?;
        check_fields(&columns, entry)?;
        let rows = entry.rows;
        let fixed = |column, packed: &[u8], width: usize| {
            let (found, expected) = (packed.len(), rows as usize * width);
            match found == expected {
                true => Ok(bytes.slice_ref(packed)),
                false => Err(LayerError::ColumnLength {
                    number,
                    column,
                    found,
                    expected,
                }),
            }
        };
        let item = |column| {
            move |(row, reason)| LayerError::Item {
                number,
                column,
                row,
                reason,
            }
        };
        let part = |packed: &[u8]| bytes.slice_ref(packed);

        let hash_parts = fixed("hash parts", columns.hash_parts, 20)?;
        let parts = hash_parts.as_chunks::<20>().0;
        if let Some(at) = parts.windows(2).position(|pair| pair[0] >= pair[1]) {
            return Err(item("hash parts")((
                at as u32 + 1,
                "does not sort after the one before it",
            )));
        }
        let names = Column::walk(part(columns.names), rows, |row, cursor| {
            let hash_part = HashPart::from_bytes(parts[row as usize]);
            let path = StorePath::new(hash_part, name_item(cursor)?);
            path.map(|_| ()).map_err(|_| "is not a store path's name")
        });
        let names = names.map_err(item("names"))?;
        let derivers = Column::walk(part(columns.derivers), rows, |row, cursor| {
            deriver_item(cursor, name_item(&mut names.at(row))?).map(|_| ())
        });
        let size = |max: u64| {
            move |_, cursor: &mut Cursor<'_>| match cursor.varint()? {
                0 => Err("is zero"),
                size if size > max => Err("is too large"),
                _ => Ok(()),
            }
        };
        let mut referred = BTreeMap::new();
        let references = Column::walk(part(columns.references), rows, |_, cursor| {
            let mut items = References::new(*cursor, number)?;
            for id in items.by_ref() {
                let id = id?;
                if id.layer == number {
                    if id.row >= rows {
                        return Err("refers to a row that this layer does not have");
                    }
                    continue;
                }
                let highest = referred.entry(id.layer).or_insert(id.row);
                *highest = id.row.max(*highest);
                if referred.len() >= MAX_LAYERS {
                    return Err("refers to more layers than a header may list");
                }
            }
            *cursor = items.cursor();
            Ok(())
        });
        let mut used = vec![false; columns.key_names.len()];
        let signatures = Column::walk(part(columns.signatures), rows, |_, cursor| {
            let mut items = RowSignatures::new(*cursor)?;
            for signature in items.by_ref() {
                let key = used.get_mut(signature?.0 as usize);
                *key.ok_or("names a key that is not listed")? = true;
            }
            *cursor = items.cursor();
            Ok(())
        });
        let signatures = signatures.map_err(item("signatures"))?;
        let names_of_keys = &columns.key_names;
        let reason = if !names_of_keys.is_sorted_by(|a, b| a < b) {
            Some("do not ascend")
        } else if !used.iter().all(|used| *used) {
            Some("have one that no row uses")
        } else if !names_of_keys.iter().all(|name| is_key_name(name)) {
            Some("have one that is not the name of a key")
        } else {
            None
        };
        if let Some(reason) = reason {
            return Err(LayerError::KeyNames { number, reason });
        }
        let info_hashes = fixed("info hashes", columns.info_hashes, 20)?;
        Ok(Self {
            number,
            rows,
            sha256,
            encoder: columns.encoder.to_owned(),
            key_names: columns.key_names.iter().map(ToString::to_string).collect(),
            nar_hashes: fixed("nar hashes", columns.nar_hashes, 32)?,
            names,
            derivers: derivers.map_err(item("derivers"))?,
            nar_sizes: Column::walk(part(columns.nar_sizes), rows, size(MAX_NAR_SIZE))
                .map_err(item("nar sizes"))?,
            payload_lengths: Column::walk(part(columns.payload_lengths), rows, size(MAX_LENGTH))
                .map_err(item("payload lengths"))?,
            references: references.map_err(item("references"))?,
            signatures,
            ca_starts: ca_starts(columns.ca, rows).map_err(item("content addresses"))?,
            ca: part(columns.ca),
            by_info_hash: sorted_rows(&info_hashes),
            hash_parts,
            info_hashes,
            referred,
        })
    }

    /// Whether every row that this layer refers to exists in a layer of the header. Needed once for each header that
    /// lists the layer, before its references are followed.
    pub fn check_references(&self, header: &Header) -> Result<(), LayerError> {
        let number = self.number;
        let own = header
            .layer(number)
            .filter(|entry| entry.sha256 == self.sha256);
        let own = own.ok_or(LayerError::Unlisted { number })?;
        for (&referred, &row) in &self.referred {
            let Some(entry) = header.layer(referred) else {
                return Err(LayerError::ForeignLayer { number, referred });
            };
            if entry.system != own.system {
                return Err(LayerError::ForeignSystem {
                    number,
                    system: own.system.clone(),
                    referred,
                    other: entry.system.clone(),
                });
            }
            let rows = entry.rows;
            if row >= rows {
                return Err(LayerError::ForeignRow {
                    number,
                    referred,
                    row,
                    rows,
                });
            }
        }
        Ok(())
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    pub fn encoder(&self) -> &str {
        &self.encoder
    }

    /// How many rows there are, dead ones included.
    #[expect(clippy::len_without_is_empty, reason = "a layer has at least one row")]
    pub fn len(&self) -> u32 {
        self.rows
    }

    pub fn row(&self, row: u32) -> Option<Row<'_>> {
        (row < self.rows).then(|| Row::new(self, row))
    }

    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        (0..self.rows).map(|row| Row::new(self, row))
    }

    pub fn find(&self, hash_part: &HashPart) -> Option<u32> {
        let found = self
            .hash_parts
            .as_chunks()
            .0
            .binary_search(hash_part.as_bytes());
        found.ok().map(|row| row as u32)
    }

    /// The first of the rows whose payload this is.
    pub fn find_info_hash(&self, info_hash: &InfoHash) -> Option<u32> {
        self.rows_with(info_hash).next().map(|row| row.id().row)
    }

    /// The rows whose payload this is: equal NARs under different names share it.
    pub fn rows_with(&self, info_hash: &InfoHash) -> impl Iterator<Item = Row<'_>> {
        let hashes = self.info_hashes.as_chunks::<20>().0;
        let wanted = *info_hash.as_bytes();
        let at = self
            .by_info_hash
            .partition_point(|row| hashes[*row as usize] < wanted);
        let rows = self.by_info_hash[at..].iter();
        rows.take_while(move |row| hashes[**row as usize] == wanted)
            .map(|row| Row::new(self, *row))
    }
}

impl fmt::Debug for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Layer({} of {} rows)", self.number, self.rows)
    }
}

/// What the header says of a layer must be what the layer says of itself.
fn check_fields(columns: &LayerColumns<'_>, entry: &LayerEntry) -> Result<(), LayerError> {
    let number = entry.number;
    if columns.format != FORMAT {
        let format = columns.format;
        return Err(LayerError::Format { number, format });
    }
    let fields = [
        (
            "number",
            columns.layer.to_string(),
            entry.number.to_string(),
        ),
        ("rows", columns.rows.to_string(), entry.rows.to_string()),
        ("system", columns.system.to_owned(), entry.system.clone()),
    ];
    for (field, found, expected) in fields {
        if found != expected {
            return Err(LayerError::Mismatch {
                number,
                field,
                found,
                expected,
            });
        }
    }
    match is_label(columns.encoder) {
        true => Ok(()),
        false => Err(LayerError::Encoder {
            number,
            encoder: columns.encoder.to_owned(),
        }),
    }
}

fn sorted_rows(info_hashes: &[u8]) -> Vec<u32> {
    let hashes = info_hashes.as_chunks::<20>().0;
    let mut rows: Vec<u32> = (0..hashes.len() as u32).collect();
    rows.sort_unstable_by_key(|row| (hashes[*row as usize], *row));
    rows
}

fn ca_starts(column: &[u8], rows: u32) -> Result<Vec<(u32, u32)>, (u32, Fault)> {
    let mut starts = Vec::new();
    let mut cursor = Cursor::new(column);
    let mut next = 0u64;
    while !cursor.is_empty() {
        let fault = |fault| (next as u32, fault);
        let row = next.checked_add(cursor.varint().map_err(fault)?);
        let row = row.filter(|row| *row < rows.into());
        let row = row.ok_or(fault("skips to a row that this layer does not have"))?;
        starts.push((row as u32, (column.len() - cursor.left()) as u32));
        ca_item(&mut cursor).map_err(|fault| (row as u32, fault))?;
        next = row + 1;
    }
    Ok(starts)
}

pub(super) fn name_item<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Fault> {
    let len = cursor.byte()?;
    let name = cursor.take(len.into())?;
    std::str::from_utf8(name).map_err(|_| "is not UTF-8")
}

pub(super) fn ca_item<'a>(cursor: &mut Cursor<'a>) -> Result<&'a str, Fault> {
    let text = name_item(cursor)?;
    match !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err("is not printable ASCII"),
    }
}

/// The longest suffix, such as `-dev`, that a row's name may have over its deriver's.
pub(super) const MAX_DERIVER_SUFFIX: usize = 200;
/// The tag of a deriver whose name is written out.
pub(super) const DERIVER_IN_FULL: u8 = 255;

pub(super) fn deriver_item(
    cursor: &mut Cursor<'_>,
    row_name: &str,
) -> Result<Option<StorePath>, Fault> {
    let tag = cursor.byte()?;
    if tag == 0 {
        return Ok(None);
    }
    let hash_part = HashPart::from_bytes(*cursor.array()?);
    let path = if tag == DERIVER_IN_FULL {
        StorePath::new(hash_part, name_item(cursor)?)
    } else {
        let suffix = usize::from(tag) - 1;
        let stem = row_name
            .len()
            .checked_sub(suffix)
            .and_then(|len| row_name.get(..len));
        let stem = stem.filter(|stem| !stem.is_empty() && suffix <= MAX_DERIVER_SUFFIX);
        let stem = stem.ok_or("has a suffix that the row's name does not have")?;
        StorePath::new(hash_part, &format!("{stem}.drv"))
    };
    path.map(Some).map_err(|_| "is not a store path's name")
}
