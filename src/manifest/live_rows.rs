//! Which rows of a layer belong to a release.
//!
//! A bitmap as BEP 3's bitfield: row 0 is the high bit of the first byte, spare bits are zero. Absent when all rows
//! are live, and only then.

use bytes::Bytes;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LiveRows {
    All,
    Some(Bytes),
}

impl LiveRows {
    pub fn of(rows: u32, is_live: impl Fn(u32) -> bool) -> Self {
        let mut bitmap = vec![0u8; rows.div_ceil(8) as usize];
        let mut count = 0;
        for row in (0..rows).filter(|row| is_live(*row)) {
            bitmap[row as usize / 8] |= 0x80 >> (row % 8);
            count += 1;
        }
        match count == rows {
            true => Self::All,
            false => Self::Some(bitmap.into()),
        }
    }

    /// Takes a bitmap of a header, or says what is wrong with it.
    pub(super) fn parse(bitmap: &[u8], rows: u32) -> Result<Self, &'static str> {
        if bitmap.len() != rows.div_ceil(8) as usize {
            return Err("is not one bit per row");
        }
        let spare = bitmap.len() * 8 - rows as usize;
        if bitmap
            .last()
            .is_some_and(|last| last.trailing_zeros() < spare as u32)
        {
            return Err("has spare bits set");
        }
        let live = Self::Some(Bytes::copy_from_slice(bitmap));
        match live.count(rows) == rows {
            true => Err("has every row set: it must be absent then"),
            false => Ok(live),
        }
    }

    pub fn is_live(&self, row: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(bitmap) => {
                let byte = bitmap.get(row as usize / 8);
                byte.is_some_and(|byte| byte & (0x80 >> (row % 8)) != 0)
            }
        }
    }

    /// How many of the layer's rows are live.
    pub fn count(&self, rows: u32) -> u32 {
        match self {
            Self::All => rows,
            Self::Some(bitmap) => bitmap.iter().map(|byte| byte.count_ones()).sum(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps() {
        fn case(bitmap: &[u8], rows: u32, live: Option<&[u32]>) {
            let parsed = LiveRows::parse(bitmap, rows).ok();
            let found = parsed.as_ref().map(|live| {
                let found: Vec<u32> = (0..rows + 9).filter(|row| live.is_live(*row)).collect();
                assert_eq!(live.count(rows) as usize, found.len());
                found
            });
            assert_eq!(found.as_deref(), live, "{bitmap:?}");
            if let (Some(parsed), Some(live)) = (parsed, live) {
                assert_eq!(LiveRows::of(rows, |row| live.contains(&row)), parsed);
            }
        }
        case(&[0b1010_0000], 3, Some(&[0, 2]));
        case(&[0b0000_0001, 0b1000_0000], 9, Some(&[7, 8]));
        case(&[0], 8, Some(&[]));
        case(&[0b1110_0000], 3, None);
        case(&[0b1001_0000], 3, None);
        case(&[0, 0], 3, None);
        case(&[], 3, None);
        assert_eq!(LiveRows::of(9, |_| true), LiveRows::All);
    }
}
