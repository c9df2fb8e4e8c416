//! When a peer that may ask has had its turn: at the end of a piece.
//!
//! A peer keeps as many requests on the way as it was told to, in a crowd those of one piece. Choked right after the last
//! block of a piece, it has asked for all of the next one, which it still gets. Choked in the middle of one, it would keep
//! a part of the next that it could not go on with, and fetch all of that elsewhere.

use std::time::Duration;

use tokio::time::Instant;

use crate::swarm::protocol::{BLOCK, REQUEST_WINDOW};

/// Of larger pieces not all is asked for at a time.
const LARGEST: u32 = REQUEST_WINDOW * BLOCK;
/// A piece that does not end in this time, or in its length, does not put the end off any longer: at 30 kB/s, 256 KiB do.
const PUT_OFF: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct TurnEnd {
    /// Whether the last block ended a piece; none before it was given any.
    ended_piece: Option<bool>,
    /// Since it is due: when that was, and what the peer was charged for.
    overdue: Option<(Instant, usize)>,
}

impl TurnEnd {
    /// A block was given.
    pub fn gave(&mut self, charged: usize, ends_piece: bool) {
        self.ended_piece = Some(ends_piece);
        if let Some((_, bytes)) = &mut self.overdue {
            *bytes += charged;
        }
    }

    /// It asks for nothing: the next piece that it asks for is another matter.
    pub fn rests(&mut self) {
        self.ended_piece = None;
    }

    /// Whether the turn was to end before, and has not.
    pub fn is_overdue(&self) -> bool {
        self.overdue.is_some()
    }

    /// Whether it ends here, if it is due.
    pub fn is_here(&mut self, due: bool, piece_length: u32, now: Instant) -> bool {
        if !due {
            self.overdue = None;
            return false;
        }
        let (since, bytes) = self.overdue.get_or_insert((now, 0));
        self.ended_piece.is_some_and(|ended| {
            ended
                || piece_length > LARGEST
                || *bytes >= piece_length as usize
                || now.duration_since(*since) >= PUT_OFF
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: u32 = 16 * BLOCK;

    #[test]
    fn it_comes_with_the_end_of_a_piece() {
        let (mut end, now) = (TurnEnd::default(), Instant::now());
        assert!(!end.is_here(true, PIECE, now), "nothing was given yet");
        end.gave(BLOCK as usize, false);
        assert!(!end.is_here(true, PIECE, now));
        end.gave(BLOCK as usize, true);
        assert!(end.is_here(true, PIECE, now));
        end.rests();
        assert!(!end.is_here(true, PIECE, now));
        assert!(!end.is_here(true, LARGEST + 1, now));
        end.gave(BLOCK as usize, false);
        assert!(
            end.is_here(true, LARGEST + 1, now),
            "of which a part is asked for"
        );
    }

    #[test]
    fn it_is_not_put_off_for_ever() {
        let (mut end, now) = (TurnEnd::default(), Instant::now());
        for _ in 0..16 {
            assert!(!end.is_here(true, PIECE, now));
            end.gave(BLOCK as usize, false);
        }
        assert!(end.is_here(true, PIECE, now));
        assert!(!end.is_here(false, PIECE, now));
        assert!(
            !end.is_here(true, PIECE, now),
            "what was given before counts no more"
        );
        assert!(end.is_here(true, PIECE, now + PUT_OFF));
    }
}
