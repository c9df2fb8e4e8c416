//! A set of rows of one layer: a bitmap in memory, and on the wire the shorter of two forms.
//!
//! ```text
//! 00 <skip> <take> <skip> <take> ...   runs of rows, each length a varint, counted from row 0
//! 01 <first> <bits>                    a bitmap from row `first` (a varint, a multiple of 8) on; as BEP 3's bitfield
//! ```
//! 2,000 of 100,000 rows take 4 kB, all of them 5 bytes, every other one 12.5 kB. A large set goes out in parts.

use thiserror::Error;

/// Rows of one part: its bitmap has 16 KiB, so that any part fits into a message.
const PART_ROWS: u32 = 1 << 17;
const RUNS: u8 = 0;
const BITS: u8 = 1;
/// 7 bits a byte: more than five never make a row.
const MAX_VARINT: usize = 5;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RowSetError {
    #[error("a row set of an unknown form ({0})")]
    Form(u8),
    #[error("a row set that is cut off")]
    CutOff,
    #[error("a row set with an empty run")]
    EmptyRun,
    #[error("a row set that names row {0} of a layer with {1} rows")]
    Row(u64, u32),
    #[error("a message that names a row twice")]
    Twice,
    #[error("a message that names more than {0} rows")]
    TooMany(u32),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowSet {
    /// Row 0 is the high bit of the first byte.
    bits: Vec<u8>,
    rows: u32,
    count: u32,
}

impl RowSet {
    /// The wire form of an empty set.
    pub const EMPTY: &[u8] = &[RUNS];

    /// An empty set of rows of a layer with so many.
    pub fn new(rows: u32) -> Self {
        Self {
            bits: vec![0; rows.div_ceil(8) as usize],
            rows,
            count: 0,
        }
    }

    pub fn of(rows: u32, members: impl IntoIterator<Item = u32>) -> Self {
        let mut set = Self::new(rows);
        members.into_iter().for_each(|row| set.insert(row));
        set
    }

    pub fn contains(&self, row: u32) -> bool {
        row < self.rows && self.bits[row as usize / 8] & mask(row) != 0
    }

    pub fn insert(&mut self, row: u32) {
        if row < self.rows && !self.contains(row) {
            self.bits[row as usize / 8] |= mask(row);
            self.count += 1;
        }
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub fn len(&self) -> u32 {
        self.count
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let bytes = self.bits.iter().enumerate().filter(|(_, byte)| **byte != 0);
        bytes.flat_map(|(at, byte)| {
            let rows = at as u32 * 8..at as u32 * 8 + 8;
            rows.filter(move |row| byte & mask(*row) != 0)
        })
    }

    /// The rows that are in one of both sets only: what turns one into the other.
    pub fn difference(&self, other: &Self) -> Self {
        let mut difference = self.clone();
        difference.flip(other);
        difference
    }

    /// Takes out what is in both, and puts in what is only in `other`.
    pub fn flip(&mut self, other: &Self) {
        for (byte, other) in self.bits.iter_mut().zip(&other.bits) {
            *byte ^= other;
        }
        self.count = self.bits.iter().map(|byte| byte.count_ones()).sum();
    }

    /// The wire form, in parts that each decode alone; none for an empty set.
    pub fn encode(&self) -> Vec<Vec<u8>> {
        let starts = (0..self.rows).step_by(PART_ROWS as usize);
        let parts = starts.map(|first| self.encode_part(first, (first + PART_ROWS).min(self.rows)));
        parts.flatten().collect()
    }

    fn encode_part(&self, first: u32, end: u32) -> Option<Vec<u8>> {
        let bytes = &self.bits[first as usize / 8..end.div_ceil(8) as usize];
        let occupied = bytes.iter().position(|byte| *byte != 0)?;
        let last = bytes.iter().rposition(|byte| *byte != 0)?;
        let mut bits = vec![BITS];
        put_varint(&mut bits, first + occupied as u32 * 8);
        bits.extend_from_slice(&bytes[occupied..=last]);
        let mut runs = vec![RUNS];
        let (mut row, mut told) = (first + occupied as u32 * 8, 0);
        let stop = (first + last as u32 * 8 + 8).min(end);
        while row < stop && runs.len() <= bits.len() {
            let start = (row..stop).find(|row| self.contains(*row));
            let Some(start) = start else { break };
            let end = (start..stop)
                .find(|row| !self.contains(*row))
                .unwrap_or(stop);
            put_varint(&mut runs, start - told);
            put_varint(&mut runs, end - start);
            (row, told) = (end, end);
        }
        Some(if runs.len() <= bits.len() { runs } else { bits })
    }

    /// Reads one part into this set. The rows of a message are named once, and are `at_most` so many in this set: what
    /// a few bytes say costs no more than the rows that there are.
    pub fn add(&mut self, encoded: &[u8], at_most: u32) -> Result<(), RowSetError> {
        let (form, mut rest) = encoded.split_first().ok_or(RowSetError::CutOff)?;
        let rows = self.rows;
        let outside = |row| RowSetError::Row(row, rows);
        match *form {
            RUNS => {
                let mut row = 0u64;
                while !rest.is_empty() {
                    let (skip, take) = (varint(&mut rest)?, varint(&mut rest)?);
                    if take == 0 {
                        return Err(RowSetError::EmptyRun);
                    }
                    let start = row + skip;
                    row = start + take;
                    if row > rows.into() {
                        return Err(outside(row - 1));
                    }
                    self.count_in(take as u32, at_most)?;
                    self.fill(start as u32, row as u32)?;
                }
            }
            BITS => {
                let first = varint(&mut rest)?;
                let end = first + rest.len() as u64 * 8;
                if first % 8 != 0 || end > u64::from(rows.next_multiple_of(8)) {
                    return Err(outside(end.saturating_sub(1)));
                }
                // Spare bits of the last byte are rows that do not exist.
                let spare = end.saturating_sub(rows.into()) as u32;
                if rest
                    .last()
                    .is_some_and(|byte| byte.trailing_zeros() < spare)
                {
                    return Err(outside(end - 1));
                }
                self.count_in(rest.iter().map(|byte| byte.count_ones()).sum(), at_most)?;
                for (byte, more) in self.bits[first as usize / 8..].iter_mut().zip(rest) {
                    if *byte & more != 0 {
                        return Err(RowSetError::Twice);
                    }
                    *byte |= more;
                }
            }
            form => return Err(RowSetError::Form(form)),
        }
        Ok(())
    }

    fn count_in(&mut self, more: u32, at_most: u32) -> Result<(), RowSetError> {
        self.count = self.count.saturating_add(more);
        match self.count > at_most {
            true => Err(RowSetError::TooMany(at_most)),
            false => Ok(()),
        }
    }

    /// Puts in a run of rows, none of which is there yet: whole bytes at once.
    fn fill(&mut self, start: u32, end: u32) -> Result<(), RowSetError> {
        let (first, last) = (start as usize / 8, (end - 1) as usize / 8);
        for at in first..=last {
            let mut run = 0xff;
            if at == first {
                run &= 0xff >> (start % 8);
            }
            if at == last {
                run &= 0xff << (7 - (end - 1) % 8);
            }
            if self.bits[at] & run != 0 {
                return Err(RowSetError::Twice);
            }
            self.bits[at] |= run;
        }
        Ok(())
    }
}

fn mask(row: u32) -> u8 {
    0x80 >> (row % 8)
}

fn put_varint(out: &mut Vec<u8>, mut value: u32) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint(input: &mut &[u8]) -> Result<u64, RowSetError> {
    let mut value = 0u64;
    for at in 0..MAX_VARINT {
        let byte = *input.get(at).ok_or(RowSetError::CutOff)?;
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *input = &input[at + 1..];
            return Ok(value);
        }
    }
    Err(RowSetError::CutOff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire_bytes(set: &RowSet) -> usize {
        set.encode().iter().map(Vec::len).sum()
    }

    fn decoded(set: &RowSet, rows: u32) -> RowSet {
        let mut whole = RowSet::new(rows);
        for part in set.encode() {
            whole.add(&part, rows).unwrap();
        }
        whole
    }

    fn read(encoded: &[u8], rows: u32) -> Result<RowSet, RowSetError> {
        let mut set = RowSet::new(rows);
        set.add(encoded, rows).map(|()| set)
    }

    #[test]
    fn sizes_on_the_wire() {
        let case = |rows: u32, members: Vec<u32>, at_most: usize| {
            let set = RowSet::of(rows, members.iter().copied());
            assert_eq!(set.len() as usize, members.len());
            assert_eq!(decoded(&set, rows), set);
            assert!(wire_bytes(&set) <= at_most, "{} bytes", wire_bytes(&set));
        };
        case(100_000, vec![], 0);
        case(100_000, (0..100_000).collect(), 5);
        case(100_000, (0..100_000).step_by(50).collect(), 4_001);
        case(100_000, (0..100_000).step_by(2).collect(), 12_502);
        case(100_000, vec![99_999], 5);
        case(1 << 20, (0..1 << 20).step_by(3).collect(), 131_200);
        let largest = RowSet::of(1 << 20, (0..1 << 20).step_by(2)).encode();
        assert!(largest.iter().all(|part| part.len() < 17_000));
    }

    #[test]
    fn what_is_refused() {
        let case = |encoded: &[u8], error: RowSetError| {
            assert_eq!(read(encoded, 10), Err(error), "{encoded:?}");
        };
        case(&[], RowSetError::CutOff);
        case(&[2, 0], RowSetError::Form(2));
        case(&[RUNS, 1], RowSetError::CutOff);
        case(&[RUNS, 1, 0], RowSetError::EmptyRun);
        case(&[RUNS, 9, 2], RowSetError::Row(10, 10));
        case(
            &[RUNS, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
            RowSetError::CutOff,
        );
        case(&[BITS, 8, 0x80, 0], RowSetError::Row(23, 10));
        case(&[BITS, 8, 0x20], RowSetError::Row(15, 10));
        case(&[BITS, 3, 0x80], RowSetError::Row(10, 10));
        assert_eq!(read(&[BITS, 8, 0x40], 10), Ok(RowSet::of(10, [9])));
    }

    #[test]
    fn a_row_is_named_once_and_rows_are_counted_before_they_are_put_in() {
        let mut set = RowSet::new(1 << 20);
        let all = RowSet::of(1 << 20, 0..1 << 20).encode();
        set.add(&[RUNS, 3, 2, 1, 20], 100).unwrap();
        assert_eq!(set, RowSet::of(1 << 20, (3..5).chain(6..26)));
        let case = |encoded: &[u8], error: RowSetError| {
            assert_eq!(set.clone().add(encoded, 100), Err(error), "{encoded:?}");
        };
        case(&[RUNS, 4, 1], RowSetError::Twice);
        case(&[RUNS, 0, 9], RowSetError::Twice);
        case(&[BITS, 0, 0x08], RowSetError::Twice);
        case(&[RUNS, 30, 79], RowSetError::TooMany(100));
        case(&all[0], RowSetError::TooMany(100));
        set.add(&[RUNS, 30, 78], 100).unwrap();
    }

    proptest! {
        #[test]
        fn sets_round_trip(rows in 1u32..5000, members in proptest::collection::vec(0u32..5000, 0..300)) {
            let members = members.into_iter().filter(|row| *row < rows);
            let set = RowSet::of(rows, members);
            prop_assert_eq!(decoded(&set, rows), set.clone());
            let other = RowSet::of(rows, set.iter().map(|row| row / 2));
            let mut flipped = set.clone();
            flipped.flip(&set.difference(&other));
            prop_assert_eq!(flipped, other);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), form in 0u8..3, rows in 1u32..3000) {
            let framed = [&[form], &bytes[..]].concat();
            for input in [&bytes, &framed] {
                if let Ok(set) = read(input, rows) {
                    prop_assert!(set.iter().all(|row| row < rows));
                    prop_assert_eq!(set.iter().count() as u32, set.len());
                }
            }
        }
    }
}
