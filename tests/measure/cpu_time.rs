//! CPU time from /proc: on a machine that others use too it tells more than a clock.

use std::fs;

/// /proc counts a process's CPU time in these.
const TICKS_PER_SECOND: f64 = 100.0;

/// Seconds of CPU that this thread has used.
pub fn of_this_thread() -> f64 {
    let text = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// Seconds of CPU that a process has used, all of its threads.
pub fn of_process(id: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
    // The name in parentheses may contain anything; after it come the state and numbers.
    let (_, fields) = text.rsplit_once(") ").unwrap();
    let ticks = |n: usize| fields.split(' ').nth(n).unwrap().parse::<f64>().unwrap();
    const USER: usize = 11;
    const SYSTEM: usize = 12;
    (ticks(USER) + ticks(SYSTEM)) / TICKS_PER_SECOND
}
