//! How rare each piece is among the downloaders: what a super-seeder shows next.

use crate::torrent::Bitfield;

#[derive(Debug, PartialEq, Eq)]
pub struct Rarity {
    /// Where this seeder starts among equally rare pieces: two seeders show different ones.
    offset: u32,
    /// Per piece, how many downloaders have it, and to how many it was shown.
    copies: Vec<u16>,
    shown: Vec<u16>,
}

impl Rarity {
    pub fn new(piece_count: u32, offset: u32) -> Self {
        Self {
            offset: offset % piece_count.max(1),
            copies: vec![0; piece_count as usize],
            shown: vec![0; piece_count as usize],
        }
    }

    /// A downloader has got a piece.
    pub fn got(&mut self, piece: u32) {
        self.copies[piece as usize] += 1;
    }

    pub fn showed(&mut self, piece: u32) {
        self.shown[piece as usize] += 1;
    }

    /// To how many downloaders it was shown.
    pub fn shown(&self, piece: u32) -> u16 {
        self.shown[piece as usize]
    }

    /// A downloader is gone with what it had; what was shown to it may be lost.
    pub fn left(&mut self, has: &Bitfield, shown: &Bitfield) {
        for piece in 0..has.piece_count() {
            self.copies[piece as usize] -= u16::from(has.get(piece));
            self.shown[piece as usize] -= u16::from(shown.get(piece));
        }
    }

    pub fn rarest(&self, pieces: impl Iterator<Item = u32>) -> Option<u32> {
        let count = self.copies.len() as u32;
        pieces.min_by_key(|piece| {
            let at = *piece as usize;
            let turned = (piece + count - self.offset) % count;
            (self.copies[at], self.shown[at], turned)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_copies_come_first_then_what_was_shown_least_then_whose_turn_it_is() {
        let mut rarity = Rarity::new(4, 6);
        assert_eq!(rarity.rarest(0..4), Some(2));
        assert_eq!(rarity.rarest(0..0), None);
        rarity.showed(2);
        assert_eq!(rarity.rarest(0..4), Some(3));
        [0, 1, 3].into_iter().for_each(|piece| rarity.got(piece));
        assert_eq!(rarity.rarest(0..4), Some(2));
        let (mut has, mut shown) = (Bitfield::new(4), Bitfield::new(4));
        assert!(has.set(3) && shown.set(2));
        rarity.left(&has, &shown);
        assert_eq!(rarity.rarest(0..4), Some(2));
        rarity.got(2);
        assert_eq!(rarity.rarest(0..4), Some(3));
    }
}
