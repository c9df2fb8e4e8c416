//! The info dict as peers ask for it, a piece at a time (BEP 9), and not without end.

use crate::torrent::InfoDict;

/// BEP 9: metadata travels in pieces of 16 KiB.
const PIECE: usize = 16 * 1024;
/// How often one connection gets it all: a client that lost a piece may ask again.
const TIMES: usize = 3;

/// Its bytes are made when they are asked for: most peers bring their own, and each connection would hold them.
#[derive(Default)]
pub struct Metadata {
    size: usize,
    /// Pieces that were given, the same ones again included.
    given: usize,
}

impl Metadata {
    pub fn of(info: &InfoDict) -> Self {
        Self {
            size: info.encode().len(),
            given: 0,
        }
    }

    pub fn size(&self) -> usize {
        self.size
    }

    /// `None` for a piece that is not there, and for whoever has had it all often enough.
    pub fn give(&mut self, piece: u32, info: &InfoDict) -> Option<Vec<u8>> {
        let pieces = self.size.div_ceil(PIECE);
        if piece as usize >= pieces || self.given >= TIMES * pieces {
            return None;
        }
        self.given += 1;
        let bytes = info.encode();
        bytes.chunks(PIECE).nth(piece as usize).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_three_times() {
        let info = InfoDict {
            name: "x.nar.zst".into(),
            length: 1000 * 262_144,
            piece_length: 262_144,
            pieces: vec![[1; 20]; 1000],
            frames: None,
        };
        let mut metadata = Metadata::of(&info);
        assert_eq!(metadata.give(2, &info), None);
        for _ in 0..TIMES {
            let all = [0, 1].map(|piece| metadata.give(piece, &info).unwrap());
            assert_eq!(all[0].len(), PIECE);
            assert_eq!(all.concat(), info.encode());
        }
        assert_eq!(metadata.give(0, &info), None);
    }
}
