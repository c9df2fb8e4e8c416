//! Waiting for a condition, never for a time.

use std::{
    thread,
    time::{Duration, Instant},
};

const PAUSE: Duration = Duration::from_millis(50);

/// What `condition` finds; after `patience` the test fails, naming what it waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, patience: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(start.elapsed() < patience, "no {what} within {patience:?}");
        thread::sleep(PAUSE);
    }
}
