//! The piece that a connection was served last: its other blocks are asked next, and making or reading it again for each
//! would cost more than it takes.
//!
//! A connection that rests keeps it only for a moment, and all that rest keep so much together: else a thousand of them
//! would hold a thousand pieces.

use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Duration, Instant, sleep_until};

/// What all connections that rest may keep, in KiB.
const ALL_TOGETHER: usize = 32 * 1024;
/// The round trip to the next request, on any link.
const KEPT_FOR: Duration = Duration::from_secs(3);

/// What is left to keep; all connections share it.
pub struct Keeping(Arc<Semaphore>);

impl Default for Keeping {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_TOGETHER)))
    }
}

#[derive(Default)]
pub struct KeptPiece {
    piece: Option<(u32, Bytes)>,
    /// While it rests: until when, and what of `Keeping` it has for its piece.
    rests: Option<(Instant, Option<OwnedSemaphorePermit>)>,
}

impl KeptPiece {
    pub fn get(&self, index: u32) -> Option<Bytes> {
        let (_, piece) = self.piece.as_ref().filter(|(last, _)| *last == index)?;
        Some(piece.clone())
    }

    pub fn is_none(&self) -> bool {
        self.piece.is_none()
    }

    /// It is being served.
    pub fn put(&mut self, index: u32, piece: Bytes) {
        self.piece = Some((index, piece));
        self.rests = None;
    }

    /// Others are served, or nothing is asked for.
    pub fn rest(&mut self, keeping: &Keeping) {
        if let (Some((_, piece)), None) = (&self.piece, &self.rests) {
            let size = u32::try_from(piece.len().div_ceil(1024)).unwrap_or(u32::MAX);
            let permit = keeping.0.clone().try_acquire_many_owned(size).ok();
            if permit.is_none() {
                self.piece = None;
            }
            self.rests = Some((Instant::now() + KEPT_FOR, permit));
        }
    }

    /// Resolves when it has rested for long enough after a piece, which is let go of.
    pub async fn expires(&mut self) {
        match &self.rests {
            Some((until, _)) => sleep_until(*until).await,
            None => pending().await,
        }
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(keeping: &Keeping, kib: usize) -> KeptPiece {
        let mut kept = KeptPiece::default();
        kept.put(7, Bytes::from(vec![0; kib * 1024]));
        kept.rest(keeping);
        kept
    }

    #[tokio::test]
    async fn those_that_rest_keep_so_much_together_and_not_for_long() {
        let keeping = Keeping::default();
        let mut first = kept(&keeping, ALL_TOGETHER / 2);
        let second = kept(&keeping, ALL_TOGETHER / 2);
        assert!(first.get(7).is_some() && first.get(6).is_none() && second.get(7).is_some());
        let mut third = kept(&keeping, 1);
        assert!(third.get(7).is_none());
        third.put(7, Bytes::from_static(b"being served"));
        assert!(third.get(7).is_some());
        let (until, _) = first.rests.as_mut().unwrap();
        assert!(*until > Instant::now());
        *until = Instant::now();
        first.expires().await;
        assert!(first.get(7).is_none());
        assert!(kept(&keeping, ALL_TOGETHER / 2).get(7).is_some());
    }
}
