//! Work on many things, on all cores.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The sum of what `work` returns for each.
pub fn in_parallel<T: Sync>(things: &[T], work: impl Fn(&T) -> u64 + Sync) -> u64 {
    let (next, total) = (AtomicUsize::new(0), Mutex::new(0));
    let worker = || {
        while let Some(thing) = things.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = work(thing);
            *total.lock().unwrap() += result;
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(worker);
        }
    });
    total.into_inner().unwrap()
}
