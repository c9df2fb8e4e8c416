//! A column whose items differ in length: the packed bytes as they came and where each row's item starts.

use bytes::Bytes;

use super::cursor::{Cursor, Fault};

pub struct Column {
    bytes: Bytes,
    /// One per row; layers are far below 4 GiB.
    starts: Vec<u32>,
}

impl Column {
    /// Walks a column of `rows` items with `item`, which must step over exactly one. Reports the row of a fault.
    pub fn walk(
        bytes: Bytes,
        rows: u32,
        mut item: impl FnMut(u32, &mut Cursor<'_>) -> Result<(), Fault>,
    ) -> Result<Self, (u32, Fault)> {
        // No item is empty: this bounds the allocation by the bytes that are there.
        if bytes.len() < rows as usize {
            return Err((0, "has fewer bytes than rows"));
        }
        let mut starts = Vec::with_capacity(rows as usize);
        let mut cursor = Cursor::new(&bytes);
        for row in 0..rows {
            starts.push((bytes.len() - cursor.left()) as u32);
            item(row, &mut cursor).map_err(|fault| (row, fault))?;
        }
        match cursor.is_empty() {
            true => Ok(Self { bytes, starts }),
            false => Err((rows - 1, "is followed by bytes that belong to no row")),
        }
    }

    /// A cursor on the item of `row`.
    pub fn at(&self, row: u32) -> Cursor<'_> {
        Cursor::new(&self.bytes[self.starts[row as usize] as usize..])
    }
}
