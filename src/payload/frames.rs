//! Where the frames of a payload lie: raw NAR ranges of a fixed size on one side, compressed ranges on the other.

use std::ops::Range;

use thiserror::Error;

/// Raw bytes per frame. Larger frames compress hardly better (8 MiB: 0.2 %), smaller ones make random access cheaper
/// but cost bytes (2 MiB: 0.5 %); 4 MiB are re-created in about 12 ms.
pub const FRAME_SIZE: usize = 4 * 1024 * 1024;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameTableError {
    #[error("a NAR of {nar_size} bytes has {expected} frames, the info dict lists {found}")]
    Count {
        nar_size: u64,
        expected: u64,
        found: usize,
    },
    #[error(
        "frame {index} of the info dict has {found} bytes, and zstd makes at most {most} of it"
    )]
    Frame { index: u64, most: u64, found: u32 },
    #[error("the frames of the info dict add up to {found} bytes, the payload has {expected}")]
    Length { expected: u64, found: u64 },
}

/// The frames of one payload; frame `i` holds the NAR bytes from `i * FRAME_SIZE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameTable {
    nar_size: u64,
    /// Compressed end of each frame.
    ends: Vec<u64>,
}

impl FrameTable {
    pub fn new(
        nar_size: u64,
        payload_length: u64,
        frames: &[u32],
    ) -> Result<Self, FrameTableError> {
        let expected = nar_size.div_ceil(FRAME_SIZE as u64);
        if expected != frames.len() as u64 {
            return Err(FrameTableError::Count {
                nar_size,
                expected,
                found: frames.len(),
            });
        }
        for (index, found) in (0..).zip(frames.iter().copied()) {
            let raw = (nar_size - index * FRAME_SIZE as u64).min(FRAME_SIZE as u64);
            let most = zstd::zstd_safe::compress_bound(raw as usize) as u64;
            if u64::from(found) > most {
                return Err(FrameTableError::Frame { index, most, found });
            }
        }
        let mut end = 0;
        let ends: Vec<u64> = frames
            .iter()
            .map(|size| {
                end += u64::from(*size);
                end
            })
            .collect();
        if end != payload_length {
            return Err(FrameTableError::Length {
                expected: payload_length,
                found: end,
            });
        }
        Ok(Self { nar_size, ends })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The NAR bytes in frame `i`.
    pub fn raw(&self, i: usize) -> Range<u64> {
        let start = i as u64 * FRAME_SIZE as u64;
        start..(start + FRAME_SIZE as u64).min(self.nar_size)
    }

    /// The payload bytes of frame `i`.
    pub fn compressed(&self, i: usize) -> Range<u64> {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        start..self.ends[i]
    }

    /// The frames that hold the payload bytes of `range`.
    pub fn covering(&self, range: &Range<u64>) -> Range<usize> {
        let first = self.ends.partition_point(|end| *end <= range.start);
        let last = self.ends.partition_point(|end| *end < range.end);
        first..(last + 1).min(self.ends.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Else a row could make us read gigabytes into memory for a NAR of a few bytes.
    #[test]
    fn no_frame_is_larger_than_zstd_makes_it() {
        let most = zstd::zstd_safe::compress_bound(100) as u32;
        assert!(FrameTable::new(100, most.into(), &[most]).is_ok());
        let refused = FrameTable::new(100, u64::from(most) + 1, &[most + 1]);
        assert!(matches!(
            refused,
            Err(FrameTableError::Frame { index: 0, .. })
        ));
        let size = FRAME_SIZE as u64;
        let refused = FrameTable::new(size + 100, 10 + u64::from(most) + 1, &[10, most + 1]);
        assert!(matches!(
            refused,
            Err(FrameTableError::Frame { index: 1, .. })
        ));
    }

    #[test]
    fn ranges_and_covering() {
        let size = FRAME_SIZE as u64;
        let table = FrameTable::new(2 * size + 5, 30, &[10, 15, 5]).unwrap();
        assert_eq!(table.len(), 3);
        assert_eq!(table.raw(2), 2 * size..2 * size + 5);
        assert_eq!(table.compressed(0), 0..10);
        assert_eq!(table.compressed(1), 10..25);
        let case = |range: Range<u64>, frames: Range<usize>| {
            assert_eq!(table.covering(&range), frames, "{range:?}")
        };
        case(0..1, 0..1);
        case(0..10, 0..1);
        case(0..11, 0..2);
        case(10..25, 1..2);
        case(9..26, 0..3);
        case(25..30, 2..3);
    }

    #[test]
    fn tables_that_do_not_add_up_are_refused() {
        assert!(matches!(
            FrameTable::new(5, 10, &[5, 5]),
            Err(FrameTableError::Count { .. })
        ));
        assert!(matches!(
            FrameTable::new(5, 10, &[9]),
            Err(FrameTableError::Length { .. })
        ));
    }
}
