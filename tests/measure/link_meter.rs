//! How full a host's link was while something ran.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::lab::Place;

const PAUSE: Duration = Duration::from_millis(50);
/// Of the link's rate: what is above counts as full, what is below as idle.
const FULL: f64 = 0.85;
const IDLE: f64 = 0.15;

#[derive(Debug, Clone, Copy, Default)]
pub struct LinkUse {
    /// Headers included.
    pub bytes: u64,
    pub seconds_full: f64,
    pub seconds_idle: f64,
}

/// Watches what `interface` sends in the namespace `place` while `work` runs.
pub fn watch<T>(
    place: &Place,
    interface: &str,
    rate_mbit: f64,
    work: impl FnOnce() -> T,
) -> (T, LinkUse) {
    let done = AtomicBool::new(false);
    thread::scope(|threads| {
        let watching = threads.spawn(|| place.run(|| samples(interface, &done)));
        let result = work();
        done.store(true, Ordering::Relaxed);
        (result, sum_up(&watching.join().unwrap(), rate_mbit))
    })
}

fn samples(interface: &str, done: &AtomicBool) -> Vec<(Instant, u64)> {
    let mut samples = vec![(Instant::now(), sent(interface))];
    while !done.load(Ordering::Relaxed) {
        thread::sleep(PAUSE);
        samples.push((Instant::now(), sent(interface)));
    }
    samples
}

fn sum_up(samples: &[(Instant, u64)], rate_mbit: f64) -> LinkUse {
    let mut sum = LinkUse::default();
    for pair in samples.windows(2) {
        let seconds = (pair[1].0 - pair[0].0).as_secs_f64();
        let bytes = pair[1].1 - pair[0].1;
        sum.bytes += bytes;
        let share = bytes as f64 * 8.0 / 1e6 / seconds / rate_mbit;
        if share > FULL {
            sum.seconds_full += seconds;
        } else if share < IDLE {
            sum.seconds_idle += seconds;
        }
    }
    sum
}

/// Bytes that `interface` in the namespace `place` has received and sent, headers included.
pub fn totals(place: &Place, interface: &str) -> (u64, u64) {
    place.run(|| counters(interface))
}

/// Bytes that an interface of this thread's namespace has sent.
fn sent(interface: &str) -> u64 {
    counters(interface).1
}

fn counters(interface: &str) -> (u64, u64) {
    let devices = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let line = devices
        .lines()
        .find_map(|line| line.trim_start().strip_prefix(interface)?.strip_prefix(':'));
    const SENT: usize = 8;
    let fields = line.unwrap().split_ascii_whitespace();
    let fields: Vec<u64> = fields.map(|field| field.parse().unwrap()).collect();
    (fields[0], fields[SENT])
}
