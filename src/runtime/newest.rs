//! The newest of what a person should see: a bounded list that forgets what has not happened again for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `status` shows the newest only; the log has them all.
const KEPT: usize = 20;
/// What is over is not worth a look any more.
const FRESH: Duration = Duration::from_secs(3600);

#[derive(Default)]
pub struct Newest(Mutex<VecDeque<(Instant, String)>>);

impl Newest {
    pub fn add(&self, item: String) {
        self.add_at(Instant::now(), item);
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<String> {
        self.list_at(Instant::now())
    }

    fn add_at(&self, now: Instant, item: String) {
        let mut items = self.lock();
        items.retain(|(_, known)| *known != item);
        items.push_back((now, item));
        if items.len() > KEPT {
            items.pop_front();
        }
    }

    fn list_at(&self, now: Instant) -> Vec<String> {
        let items = self.lock();
        let fresh = items
            .iter()
            .filter(|(at, _)| now.duration_since(*at) < FRESH);
        fresh.map(|(_, item)| item.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(Instant, String)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept_for_a_while() {
        let (newest, start) = (Newest::default(), Instant::now());
        let minute = Duration::from_secs(60);
        newest.add_at(start, "a".to_owned());
        newest.add_at(start + minute, "b".to_owned());
        newest.add_at(start + 2 * minute, "a".to_owned());
        assert_eq!(newest.list_at(start + 2 * minute), ["b", "a"]);
        assert_eq!(newest.list_at(start + minute + FRESH), ["a"]);
        (0..100).for_each(|i| newest.add_at(start, i.to_string()));
        let list = newest.list_at(start);
        assert_eq!((list.len(), list.last().unwrap().as_str()), (KEPT, "99"));
    }
}
