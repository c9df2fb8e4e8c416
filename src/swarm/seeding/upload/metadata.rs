//! The info dict as peers ask for it, a piece at a time (BEP 9), and not without end.

use crate::torrent::InfoDict;

/// BEP 9: metadata travels in pieces of 16 KiB.
const PIECE: usize = 16 * 1024;
/// How often one connection gets it all: a client that lost a piece may ask again.
const TIMES: usize = 3;

#[derive(Default)]
pub struct Metadata {
    bytes: Vec<u8>,
    /// Pieces that were given, the same ones again included.
    given: usize,
}

impl Metadata {
    pub fn of(info: &InfoDict) -> Self {
        Self {
            bytes: info.encode(),
            given: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// `None` for a piece that is not there, and for whoever has had it all often enough.
    pub fn give(&mut self, piece: u32) -> Option<&[u8]> {
        let data = self.bytes.chunks(PIECE).nth(piece as usize)?;
        if self.given >= TIMES * self.bytes.len().div_ceil(PIECE) {
            return None;
        }
        self.given += 1;
        Some(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_three_times() {
        let mut metadata = Metadata {
            bytes: vec![7; PIECE + 1],
            given: 0,
        };
        assert_eq!(metadata.give(2), None);
        for _ in 0..TIMES {
            assert_eq!(metadata.give(0).map(<[u8]>::len), Some(PIECE));
            assert_eq!(metadata.give(1), Some(&[7][..]));
        }
        assert_eq!(metadata.give(0), None);
    }
}
