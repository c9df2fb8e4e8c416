//! The newest of what a person should see: a bounded list that forgets what has not happened again for a while.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// `status` shows the newest only; the log has the others.
const KEPT: usize = 20;
/// What is over is not worth a look any more.
const FRESH: Duration = Duration::from_secs(3600);

/// What goes on is told anew after this.
const TOLD_AGAIN: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct Newest(Mutex<VecDeque<Item>>);

struct Item {
    at: Instant,
    /// When whoever added it was last told that it is new.
    told: Instant,
    text: String,
}

impl Newest {
    /// Returns whether it is new: not among these, or for a while.
    pub fn add(&self, text: String) -> bool {
        self.add_at(Instant::now(), text)
    }

    /// Oldest first.
    pub fn list(&self) -> Vec<String> {
        self.list_at(Instant::now())
    }

    fn add_at(&self, now: Instant, text: String) -> bool {
        let mut items = self.lock();
        let known = items.iter().find(|known| known.text == text);
        let told = known.map(|known| known.told);
        let told = told.filter(|told| now.saturating_duration_since(*told) < TOLD_AGAIN);
        items.retain(|known| known.text != text);
        items.push_back(Item {
            at: now,
            told: told.unwrap_or(now),
            text,
        });
        if items.len() > KEPT {
            items.pop_front();
        }
        told.is_none()
    }

    fn list_at(&self, now: Instant) -> Vec<String> {
        let items = self.lock();
        let fresh = items
            .iter()
            .filter(|item| now.saturating_duration_since(item.at) < FRESH);
        fresh.map(|item| item.text.clone()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Item>> {
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
        for i in 0..100 {
            newest.add_at(start, i.to_string());
        }
        let list = newest.list_at(start);
        assert_eq!((list.len(), list.last().unwrap().as_str()), (KEPT, "99"));
    }

    #[test]
    fn what_goes_on_is_told_now_and_then() {
        let (newest, start) = (Newest::default(), Instant::now());
        let minute = |n: u32| newest.add_at(start + n * Duration::from_secs(60), "a".to_owned());
        let told: Vec<u32> = (0..=25).filter(|n| minute(*n)).collect();
        assert_eq!(told, [0, 10, 20]);
    }
}
