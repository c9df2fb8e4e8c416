//! How much has come, and how fast it comes lately.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A piece of 256 KiB that shares a slow line with twenty others takes its time, so a shorter look would see none.
const SPAN: Duration = Duration::from_secs(2);
/// What has just begun is measured over the time since then, but not over less.
const SHORTEST: Duration = Duration::from_millis(250);

pub struct Meter {
    begun: Instant,
    spans: Mutex<Spans>,
}

#[derive(Default)]
struct Spans {
    total: u64,
    /// How many spans have passed since the meter began.
    number: u64,
    bytes: u64,
    bytes_before: u64,
    /// When the first bytes came after a pause, or ever.
    since: Duration,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            begun: Instant::now(),
            spans: Mutex::default(),
        }
    }
}

impl Meter {
    pub fn add(&self, bytes: u64) {
        self.add_at(self.begun.elapsed(), bytes);
    }

    /// Since the start.
    pub fn bytes(&self) -> u64 {
        self.at(self.begun.elapsed(), |spans| spans.total)
    }

    pub fn bytes_per_second(&self) -> u64 {
        self.rate(self.begun.elapsed())
    }

    fn add_at(&self, now: Duration, bytes: u64) {
        self.at(now, |spans| {
            if spans.bytes + spans.bytes_before == 0 {
                spans.since = now;
            }
            spans.bytes += bytes;
            spans.total += bytes;
        });
    }

    /// Over the last span: of the one before as much as belongs to it still.
    fn rate(&self, now: Duration) -> u64 {
        let passed = now.as_secs_f64() / SPAN.as_secs_f64();
        let rest = 1.0 - passed.fract();
        let (bytes, since) = self.at(now, |spans| {
            let bytes = spans.bytes as f64 + spans.bytes_before as f64 * rest;
            (bytes, spans.since)
        });
        let span = now.saturating_sub(since).clamp(SHORTEST, SPAN);
        (bytes / span.as_secs_f64()) as u64
    }

    fn at<T>(&self, now: Duration, look: impl FnOnce(&mut Spans) -> T) -> T {
        let number = now.as_secs() / SPAN.as_secs();
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread's clock may be a moment ahead.
        if number > spans.number {
            let follows = number == spans.number + 1;
            spans.bytes_before = if follows { spans.bytes } else { 0 };
            spans.bytes = 0;
            spans.number = number;
        }
        look(&mut spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_ago_counts_no_more() {
        let meter = Meter::default();
        let at = |seconds: f64| Duration::from_secs_f64(seconds);
        meter.add_at(at(0.5), 1000);
        assert_eq!(meter.rate(at(0.6)), 4000);
        assert_eq!(meter.rate(at(1.0)), 2000);
        assert_eq!(meter.rate(at(3.0)), 250);
        meter.add_at(at(3.5), 3000);
        assert_eq!(meter.rate(at(4.0)), 1500);
        assert_eq!(meter.rate(at(8.0)), 0);
        meter.add_at(at(8.5), 1000);
        assert_eq!(meter.rate(at(9.5)), 1000);
        assert_eq!(meter.bytes(), 5000);
    }
}
