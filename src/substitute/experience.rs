//! What was seen of the swarm and of the upstreams lately, and how long one is given before the other is brought in.
//!
//! A second source costs a request and perhaps some bytes; a source that is waited for in vain costs Nix time. So the
//! swarm gets a head start that shrinks to nothing when it keeps losing, and grows back when it delivers.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::runtime::Source;

/// Installed paths are read from disk; a disk that needs longer is in trouble.
const STORE_HEAD_START: Duration = Duration::from_secs(3);
/// From the request to the first decoded frame, when peers and info dict are known: a few round trips and one frame.
const SWARM_HEAD_START: Duration = Duration::from_millis(400);
/// When the info dict is not here yet, nobody may have the NAR at all.
const STRANGER_HEAD_START: Duration = Duration::from_millis(150);
/// An upstream answers within its own deadline; what follows it is only a last resort.
const UPSTREAM_HEAD_START: Duration = Duration::from_secs(6);
/// No bytes for so long in the middle of a NAR: the next source starts to catch up.
const GAP: Duration = Duration::from_millis(2500);
/// After so many NARs in a row that another source had first, the swarm gets no head start.
const LOSSES_TO_HURRY: u32 = 2;
/// After so many it is not asked first, except now and then, to notice when it is well again.
const LOSSES_TO_AVOID: u32 = 5;
const RETRY_EVERY: u32 = 10;
/// A NAR smaller than this says nothing of a rate.
const RATED: u64 = 256 * 1024;
/// The swarm is too slow when all of the NAR from the upstream would come so many times sooner than the rest from it.
const WORTH_A_CHANGE: u64 = 2;
/// An upstream of which nothing is known is taken for a modest one (bytes per second).
const ASSUMED_RATE: u64 = 1_000_000;

#[derive(Default)]
pub struct Experience {
    losses: AtomicU32,
    avoided: AtomicU32,
    /// Bytes per second of the upstreams' last NARs, averaged; 0 when unknown.
    upstream_rate: AtomicU64,
}

impl Experience {
    /// How long a source is waited for before the next one starts too. `known` says whether its info dict is here.
    pub fn head_start(&self, source: Source, known: bool, begun: bool) -> Duration {
        if begun {
            return GAP;
        }
        match source {
            Source::Store => STORE_HEAD_START,
            Source::Upstream => UPSTREAM_HEAD_START,
            Source::Swarm if self.losses.load(Relaxed) >= LOSSES_TO_HURRY => Duration::ZERO,
            Source::Swarm if known => SWARM_HEAD_START,
            Source::Swarm => STRANGER_HEAD_START,
        }
    }

    /// Whether the swarm should be asked after the upstreams this time.
    pub fn avoids_swarm(&self) -> bool {
        self.losses.load(Relaxed) >= LOSSES_TO_AVOID
            && self.avoided.fetch_add(1, Relaxed) % RETRY_EVERY != RETRY_EVERY - 1
    }

    pub fn swarm_lost(&self) {
        self.losses.fetch_add(1, Relaxed);
    }

    pub fn swarm_delivered(&self) {
        self.losses.store(0, Relaxed);
    }

    /// An upstream delivered so much in so long.
    pub fn upstream_delivered(&self, bytes: u64, took: Duration) {
        let millis = took.as_millis().max(1) as u64;
        if bytes >= RATED {
            let rate = bytes * 1000 / millis;
            let before = self.upstream_rate.load(Relaxed);
            self.upstream_rate.store(
                if before == 0 {
                    rate
                } else {
                    (before * 3 + rate) / 4
                },
                Relaxed,
            );
        }
    }

    /// Whether an upstream would have the whole NAR long before the rest of it has come at the present rate.
    pub fn is_too_slow(&self, done: u64, took: Duration, size: u64) -> bool {
        let millis = took.as_millis() as u64;
        if millis < GAP.as_millis() as u64 || size - done < RATED {
            return false;
        }
        let upstream = match self.upstream_rate.load(Relaxed) {
            0 => ASSUMED_RATE,
            rate => rate,
        };
        let rest = (size - done) as u128 * u128::from(millis) / u128::from(done.max(1));
        rest > u128::from(size) * 1000 / u128::from(upstream) * u128::from(WORTH_A_CHANGE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_start_follows_what_was_seen() {
        let experience = Experience::default();
        assert_eq!(
            experience.head_start(Source::Swarm, true, false),
            SWARM_HEAD_START
        );
        (0..LOSSES_TO_HURRY).for_each(|_| experience.swarm_lost());
        assert_eq!(
            experience.head_start(Source::Swarm, true, false),
            Duration::ZERO
        );
        assert!(!experience.avoids_swarm());
        (0..LOSSES_TO_AVOID).for_each(|_| experience.swarm_lost());
        let avoided = (0..RETRY_EVERY * 2)
            .filter(|_| experience.avoids_swarm())
            .count();
        assert_eq!(
            avoided as u32,
            RETRY_EVERY * 2 - 2,
            "it is tried again now and then"
        );
        experience.swarm_delivered();
        assert!(!experience.avoids_swarm());
        assert_eq!(experience.head_start(Source::Swarm, true, true), GAP);
    }

    #[test]
    fn slow_is_measured_against_the_upstream() {
        let experience = Experience::default();
        let seconds = Duration::from_secs;
        let case =
            |done: u64, took: u64, size: u64| experience.is_too_slow(done, seconds(took), size);
        assert!(!case(1, 1, 100_000_000), "too early to tell");
        assert!(
            case(100_000, 5, 100_000_000),
            "20 kB/s against an assumed 1 MB/s"
        );
        assert!(!case(99_900_000, 5, 100_000_000), "nearly done");
        experience.upstream_delivered(50_000_000, seconds(1));
        assert!(case(10_000_000, 5, 100_000_000), "45 s against 2 s");
        assert!(!case(50_000_000, 3, 100_000_000), "3 s against 2 s");
        experience.upstream_delivered(100, seconds(100));
        assert!(
            case(10_000_000, 5, 100_000_000),
            "small NARs say nothing of a rate"
        );
    }
}
