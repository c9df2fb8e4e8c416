//! What was seen of the swarm and of the upstreams lately, and how long one is given before the other is brought in.
//!
//! A second source costs a request and perhaps some bytes; a source that is waited for in vain costs Nix time. So the
//! swarm gets a head start only when it has shown something, less when it keeps losing, and none when it is in
//! disrepute: then it is tried again where Nix does not wait for it, ahead of what is asked.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::swarm::Prospect;

/// Installed paths and kept payloads are read from disk; a disk that needs longer is in trouble.
pub const DISK_HEAD_START: Duration = Duration::from_secs(3);
/// An upstream that has not sent a byte by then is late, and the next source is asked too.
pub const UPSTREAM_HEAD_START: Duration = Duration::from_millis(1500);
/// From the request to the first decoded frame, when a peer has just shown that it has the payload: a few round trips
/// and one frame.
const SHOWN_HEAD_START: Duration = Duration::from_millis(400);
/// There are peers that answer, but whether one of them has the payload is still to be found out.
const REACHABLE_HEAD_START: Duration = Duration::from_millis(150);
/// No bytes for so long in the middle of a NAR: the next source starts to catch up.
pub const GAP: Duration = Duration::from_millis(2500);
/// No block for so long before the first frame is whole: then it is not on its way.
pub const BLOCK_GAP: Duration = Duration::from_millis(400);
/// Before that a rate says nothing.
const EARLY: Duration = Duration::from_secs(1);
/// After so many losses without a success between them the swarm gets no head start.
const LOSSES_TO_HURRY: u32 = 2;
/// After so many it is asked after the upstreams, until a download ahead has shown that it is well again.
const LOSSES_TO_AVOID: u32 = 5;
/// To fall silent in the middle of a NAR costs Nix more than to be late: it counts as so many losses.
const SILENCE_COSTS: u32 = 2;
/// A NAR smaller than this says nothing of a rate, a larger one little of a delay.
const RATED: u64 = 256 * 1024;
/// A source is too slow when an upstream would have the whole NAR so many times sooner than it the rest.
const WORTH_A_CHANGE: u32 = 2;
/// An upstream that was not measured yet is taken for a good one: if it is not, one attempt shows that, while one that
/// is thought too little of is never tried.
const ASSUMED_DELAY: Duration = Duration::from_millis(200);
/// NAR bytes per second, for the same reason: cache.nixos.org on a line of 30 Mbit/s.
const ASSUMED_RATE: u64 = 10_000_000;
/// Nobody is called slow for what a busy machine does: never slower by more than a seventh means so much of a second
/// in a closure, and less than that is noise.
const SLACK: Duration = Duration::from_millis(150);
/// How much of the newest measurement goes into what is remembered: a quarter.
const MEMORY: u64 = 4;

#[derive(Default)]
pub struct Experience {
    losses: AtomicU32,
    /// Of the upstreams' NARs, as they were fetched whole: milliseconds for a small one, 0 when unknown.
    delay: AtomicU64,
    /// Bytes per second of the larger ones, 0 when unknown.
    rate: AtomicU64,
}

impl Experience {
    /// How long the swarm is waited for before the next source starts too.
    pub fn swarm_head_start(&self, prospect: Prospect) -> Duration {
        match prospect {
            Prospect::Here => DISK_HEAD_START,
            _ if self.losses.load(Relaxed) >= LOSSES_TO_HURRY => Duration::ZERO,
            Prospect::Shown => SHOWN_HEAD_START,
            Prospect::Reachable => REACHABLE_HEAD_START,
            Prospect::Nobody => Duration::ZERO,
        }
    }

    /// Whether the swarm should be asked after the upstreams.
    pub fn avoids_swarm(&self) -> bool {
        self.losses.load(Relaxed) >= LOSSES_TO_AVOID
    }

    /// Another source had the first byte although the swarm has had `age`.
    pub fn swarm_was_late(&self, age: Duration) {
        // Whoever was not given any time has not lost.
        if age >= REACHABLE_HEAD_START {
            self.losses.fetch_add(1, Relaxed);
        }
    }

    /// It fell silent in the middle of a NAR, or lied.
    pub fn swarm_failed(&self) {
        self.losses.fetch_add(SILENCE_COSTS, Relaxed);
    }

    /// The swarm delivered a whole NAR, for which Nix had to wait so long.
    pub fn swarm_delivered(&self, bytes: u64, waited: Duration) {
        if waited <= self.expected(bytes) * 23 / 20 + SLACK {
            self.losses.store(0, Relaxed);
        } else {
            self.losses.fetch_add(1, Relaxed);
        }
    }

    /// An upstream delivered a whole NAR in so long.
    pub fn upstream_delivered(&self, bytes: u64, took: Duration) {
        let millis = (took.as_millis() as u64).max(1);
        if bytes < RATED {
            remember(&self.delay, millis);
        } else {
            let flowing = millis.saturating_sub(self.delay.load(Relaxed)).max(1);
            remember(&self.rate, bytes.saturating_mul(1000) / flowing);
        }
    }

    /// How long an upstream would take for a NAR of so many bytes.
    pub fn expected(&self, bytes: u64) -> Duration {
        let delay = match self.delay.load(Relaxed) {
            0 => ASSUMED_DELAY,
            millis => Duration::from_millis(millis),
        };
        let rate = match self.rate.load(Relaxed) {
            0 => ASSUMED_RATE,
            rate => rate,
        };
        delay + Duration::from_secs_f64(bytes as f64 / rate as f64)
    }

    /// Whether an upstream would have the whole NAR long before the rest of it has come as the bytes so far did. So many
    /// `others` share the line, and would share it with the upstream too.
    pub fn is_too_slow(
        &self,
        came: u64,
        waited: Duration,
        rest: u64,
        size: u64,
        others: usize,
    ) -> bool {
        if waited < EARLY || rest < RATED {
            return false;
        }
        let rest = waited.as_secs_f64() * rest as f64 / came.max(1) as f64;
        let expected = self.expected(size) * WORTH_A_CHANGE * (others as u32 + 1);
        rest > expected.as_secs_f64()
    }
}

fn remember(average: &AtomicU64, newest: u64) {
    let before = average.load(Relaxed);
    let now = match before {
        0 => newest,
        before => (before * (MEMORY - 1) + newest) / MEMORY,
    };
    average.store(now.max(1), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(10);

    #[test]
    fn the_head_start_follows_what_was_seen() {
        let experience = Experience::default();
        let case = |prospect, expected| {
            assert_eq!(experience.swarm_head_start(prospect), expected);
        };
        case(Prospect::Nobody, Duration::ZERO);
        case(Prospect::Reachable, REACHABLE_HEAD_START);
        case(Prospect::Shown, SHOWN_HEAD_START);
        experience.swarm_was_late(SOON);
        experience.swarm_was_late(SHOWN_HEAD_START);
        case(Prospect::Shown, SHOWN_HEAD_START);
        experience.swarm_was_late(SHOWN_HEAD_START);
        case(Prospect::Shown, Duration::ZERO);
        case(Prospect::Here, DISK_HEAD_START);
        assert!(!experience.avoids_swarm());
        experience.swarm_failed();
        experience.swarm_failed();
        assert!(experience.avoids_swarm());
        experience.swarm_delivered(1000, SOON);
        assert!(!experience.avoids_swarm());
        case(Prospect::Shown, SHOWN_HEAD_START);
    }

    #[test]
    fn a_swarm_that_delivers_late_has_lost() {
        let experience = Experience::default();
        experience.upstream_delivered(1000, Duration::from_millis(50));
        (0..LOSSES_TO_AVOID)
            .for_each(|_| experience.swarm_delivered(1000, Duration::from_millis(400)));
        assert!(experience.avoids_swarm());
        experience.swarm_delivered(1000, Duration::from_millis(200));
        assert!(!experience.avoids_swarm());
    }

    #[test]
    fn slow_is_measured_against_the_upstream() {
        let experience = Experience::default();
        let seconds = Duration::from_secs;
        let case = |came: u64, waited: u64, size: u64| {
            experience.is_too_slow(came, seconds(waited), size - came, size, 0)
        };
        assert!(!case(1, 0, 100_000_000), "too early to tell");
        assert!(case(100_000, 5, 100_000_000), "20 kB/s");
        assert!(!case(99_900_000, 5, 100_000_000), "nearly done");
        experience.upstream_delivered(50_000_000, seconds(1));
        assert!(case(10_000_000, 5, 100_000_000), "45 s against 2 s");
        assert!(!case(50_000_000, 3, 100_000_000), "3 s against 2 s");
        assert!(
            !experience.is_too_slow(10_000_000, seconds(1), 90_000_000, 100_000_000, 7),
            "the line has eight"
        );
        experience.upstream_delivered(100, seconds(100));
        assert!(
            !case(10_000_000, 5, 100_000_000),
            "an upstream that needs so long for little is no help"
        );
        (0..30).for_each(|_| experience.upstream_delivered(100, SOON));
        (0..30).for_each(|_| experience.upstream_delivered(1_000_000, seconds(1)));
        assert!(!case(10_000_000, 5, 100_000_000), "45 s against 100 s");
    }
}
