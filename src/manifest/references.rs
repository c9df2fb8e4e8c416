//! A row's references as row ids, packed.
//!
//! ```text
//! varint count of references into the row's own layer, that many rows
//! varint count of groups, each: varint layer distance, varint count, that many rows
//! ```
//! A layer distance is how far the layer's number lies below the row's own, nearest group first. Rows ascend: the
//! first as it is, each other as the number of rows skipped since the one before it.

use std::collections::BTreeMap;

use super::RowId;
use super::cursor::{Cursor, Fault, put_varint};
use super::limits::MAX_ROWS;

/// Reads the references of one row. After a fault it ends.
pub struct References<'a> {
    cursor: Cursor<'a>,
    own_layer: u32,
    /// Groups still to be read; unknown until the own layer's references are.
    groups: Option<u64>,
    distance: u64,
    /// Rows of the current group still to be read, and where the next may be at the lowest.
    left: u64,
    lowest: u64,
}

impl<'a> References<'a> {
    pub fn new(mut cursor: Cursor<'a>, own_layer: u32) -> Result<Self, Fault> {
        let left = cursor.varint()?;
        Ok(Self {
            cursor,
            own_layer,
            groups: None,
            distance: 0,
            left,
            lowest: 0,
        })
    }

    /// Where the next row's references start, once these have all been read.
    pub fn cursor(self) -> Cursor<'a> {
        self.cursor
    }

    fn read(&mut self) -> Result<Option<RowId>, Fault> {
        while self.left == 0 {
            let groups = match self.groups {
                None => self.cursor.varint()?,
                Some(groups) => groups,
            };
            self.groups = Some(groups);
            if groups == 0 {
                return Ok(None);
            }
            let distance = self.cursor.varint()?;
            if distance <= self.distance || distance >= self.own_layer.into() {
                return Err("refers to layers that are not earlier ones, nearest first");
            }
            self.left = self.cursor.varint()?;
            if self.left == 0 {
                return Err("has an empty group");
            }
            (self.groups, self.distance, self.lowest) = (Some(groups - 1), distance, 0);
        }
        let row = self.cursor.varint()?.checked_add(self.lowest);
        let row = row.filter(|row| *row < MAX_ROWS.into());
        let row = row.ok_or("refers to a row that no layer has")?;
        self.left -= 1;
        self.lowest = row + 1;
        Ok(Some(RowId {
            layer: self.own_layer - self.distance as u32,
            row: row as u32,
        }))
    }
}

impl Iterator for References<'_> {
    type Item = Result<RowId, Fault>;

    fn next(&mut self) -> Option<Self::Item> {
        let result = self.read();
        if result.is_err() {
            (self.left, self.groups) = (0, Some(0));
        }
        result.transpose()
    }
}

/// Packs the references of a row of layer `own_layer` to itself or earlier layers.
pub fn put_references(out: &mut Vec<u8>, own_layer: u32, references: &[RowId]) {
    let mut groups = BTreeMap::<u32, Vec<u32>>::new();
    for reference in references {
        let distance = own_layer - reference.layer;
        groups.entry(distance).or_default().push(reference.row);
    }
    let own = groups.remove(&0).unwrap_or_default();
    put_rows(out, own);
    put_varint(out, groups.len() as u64);
    for (distance, rows) in groups {
        put_varint(out, distance.into());
        put_rows(out, rows);
    }
}

fn put_rows(out: &mut Vec<u8>, mut rows: Vec<u32>) {
    rows.sort_unstable();
    rows.dedup();
    put_varint(out, rows.len() as u64);
    let mut lowest = 0;
    for row in rows {
        put_varint(out, (row - lowest).into());
        lowest = row + 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn read(bytes: &[u8]) -> Result<Vec<RowId>, Fault> {
        References::new(Cursor::new(bytes), 5)?.collect()
    }

    #[test]
    fn packed_forms() {
        fn case(bytes: &[u8], expected: Option<&[(u32, u32)]>) {
            let found = read(bytes).ok();
            let rows =
                |ids: Vec<RowId>| ids.iter().map(|id| (id.layer, id.row)).collect::<Vec<_>>();
            assert_eq!(found.clone().map(rows).as_deref(), expected, "{bytes:?}");
            if let Some(found) = found {
                let mut out = Vec::new();
                put_references(&mut out, 5, &found);
                assert_eq!(out, bytes);
            }
        }
        case(&[0, 0], Some(&[]));
        case(&[2, 3, 0, 0], Some(&[(5, 3), (5, 4)]));
        case(
            &[1, 9, 2, 1, 1, 0, 4, 2, 7, 1],
            Some(&[(5, 9), (4, 0), (1, 7), (1, 9)]),
        );
        case(&[0, 1, 5, 1, 0], None);
        case(&[0, 1, 0, 1, 0], None);
        case(&[0, 2, 2, 1, 0, 2, 1, 1], None);
        case(&[0, 2, 2, 1, 0, 1, 1, 1], None);
        case(&[0, 1, 1, 0], None);
        case(&[1], None);
        case(&[1, 0], None);
        case(&[1, 0x80, 0x80, 0x40, 0], None);
        case(&[0xff, 0xff, 0xff, 0x7f, 0], None);
    }

    proptest! {
        #[test]
        fn what_reads_packs_the_same(bytes in proptest::collection::vec(0u8..12, 0..40)) {
            let Ok(mut references) = References::new(Cursor::new(&bytes), 5) else { return Ok(()) };
            if let Ok(found) = references.by_ref().collect::<Result<Vec<_>, _>>() {
                let used = bytes.len() - references.cursor().left();
                let mut out = Vec::new();
                put_references(&mut out, 5, &found);
                prop_assert_eq!(&out[..], &bytes[..used]);
            }
        }

        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = read(&bytes);
        }
    }
}
