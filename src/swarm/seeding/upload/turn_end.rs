//! When a peer that may ask has had its turn: at the end of a piece.
//!
//! A peer keeps as many requests on the way as it was told to, in a crowd those of one piece. Choked right after the last
//! block of a piece, it has asked for all of the next one, which it still gets. Choked in the middle of one, it would keep
//! a part of the next that it could not go on with, and fetch all of that elsewhere.

use std::time::Duration;

use tokio::time::Instant;

/// Of larger pieces not all is asked for at a time.
const LARGEST: usize = 2 * 1024 * 1024;
/// A piece that does not end in this time, or in its length, does not put the end off any longer: at 30 kB/s, 256 KiB do.
const PUT_OFF: Duration = Duration::from_secs(10);

#[derive(Default)]
pub struct TurnEnd {
    /// Whether the last block ended a piece; none before it was given any.
    ended_piece: Option<bool>,
    /// Since its time was up: when that was, and what it was charged for.
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

    /// Whether its time was up before.
    pub fn is_overdue(&self) -> bool {
        self.overdue.is_some()
    }

    /// Its time is up, and somebody waits. Returns whether its turn ends here.
    pub fn is_here(&mut self, piece_length: usize, now: Instant) -> bool {
        let (since, bytes) = self.overdue.get_or_insert((now, 0));
        self.ended_piece.is_some_and(|ended| {
            ended
                || piece_length > LARGEST
                || *bytes >= piece_length
                || now.duration_since(*since) >= PUT_OFF
        })
    }

    /// Its time is not up, or nobody waits.
    pub fn is_not_due(&mut self) {
        self.overdue = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLOCK: usize = 16 * 1024;
    const PIECE: usize = 16 * BLOCK;

    #[test]
    fn it_comes_with_the_end_of_a_piece() {
        let (mut end, now) = (TurnEnd::default(), Instant::now());
        assert!(!end.is_here(PIECE, now), "nothing was given yet");
        end.gave(BLOCK, false);
        assert!(!end.is_here(PIECE, now));
        end.gave(BLOCK, true);
        assert!(end.is_here(PIECE, now));
        end.rests();
        assert!(!end.is_here(PIECE, now));
        assert!(!end.is_here(LARGEST + 1, now));
        end.gave(BLOCK, false);
        assert!(
            end.is_here(LARGEST + 1, now),
            "of which a part is asked for"
        );
    }

    #[test]
    fn it_is_not_put_off_for_ever() {
        let (mut end, now) = (TurnEnd::default(), Instant::now());
        for _ in 0..16 {
            assert!(!end.is_here(PIECE, now));
            end.gave(BLOCK, false);
        }
        assert!(end.is_here(PIECE, now));
        end.is_not_due();
        assert!(
            !end.is_here(PIECE, now),
            "what was given before counts no more"
        );
        assert!(end.is_here(PIECE, now + PUT_OFF));
    }
}
