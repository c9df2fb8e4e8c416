//! What was seen of the swarm and of the upstreams lately, and how long one is given before the other is brought in.
//!
//! A second source costs a request and perhaps some bytes; a source that is waited for in vain costs Nix time. So the
//! swarm gets a head start only when it has shown something, less when it keeps losing, and none when it is in
//! disrepute: then it is tried again where Nix does not wait for it, ahead of what is asked.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

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
/// The same as it goes over the line, compressed.
const ASSUMED_LINE: u64 = ASSUMED_RATE / COMPRESSION;
/// How many NAR bytes a byte on the line makes, where nobody says it.
const COMPRESSION: u64 = 3;
/// Nobody is called slow for what a busy machine does: never slower by more than a seventh means so much of a second
/// in a closure, and less than that is noise.
const SLACK: Duration = Duration::from_millis(150);
/// How much of the newest measurement goes into what is remembered: a quarter.
const MEMORY: u64 = 4;

#[derive(Default)]
pub struct Experience {
    losses: Mutex<Losses>,
    /// Of the upstreams' NARs, as they were fetched whole: milliseconds for a small one, 0 when unknown.
    delay: AtomicU64,
    /// NAR bytes per second of a larger one that has the line for itself, 0 when unknown.
    rate: AtomicU64,
    /// The same as it goes over the line.
    line: AtomicU64,
}

/// The swarm's, since it last delivered in time.
#[derive(Default)]
struct Losses {
    count: u32,
    last: Option<Instant>,
}

/// What a source had to bring, and how long that took.
#[derive(Clone, Copy)]
pub struct Delivery {
    pub nar_size: u64,
    /// How long it was waited for.
    pub took: Duration,
    /// NARs that shared the line with it, and itself.
    pub sharing: usize,
}

impl Experience {
    /// How long the swarm is waited for before the next source starts too.
    pub fn swarm_head_start(&self, prospect: Prospect) -> Duration {
        match prospect {
            Prospect::Here => DISK_HEAD_START,
            _ if self.losses().count >= LOSSES_TO_HURRY => Duration::ZERO,
            Prospect::Shown => SHOWN_HEAD_START,
            Prospect::Reachable => REACHABLE_HEAD_START,
            Prospect::Nobody => Duration::ZERO,
        }
    }

    /// Whether the swarm should be asked after the upstreams.
    pub fn avoids_swarm(&self) -> bool {
        self.losses().count >= LOSSES_TO_AVOID
    }

    /// Another source had the first byte although the swarm was asked at `began`.
    pub fn swarm_was_late(&self, began: Instant) {
        // Whoever was not given any time has not lost: an upstream needs fewer round trips to begin.
        let fair = match self.losses().count {
            LOSSES_TO_HURRY.. => SHOWN_HEAD_START,
            _ => REACHABLE_HEAD_START,
        };
        if began.elapsed() >= fair {
            self.lost(began, 1);
        }
    }

    /// It fell silent in the middle of a NAR that was asked for at `began`, or lied.
    pub fn swarm_failed(&self, began: Instant) {
        self.lost(began, SILENCE_COSTS);
    }

    /// Those that were under way at the last loss lost with it: sixteen at once are late together, and only once.
    fn lost(&self, began: Instant, count: u32) {
        let mut losses = self.losses();
        if losses.last.is_none_or(|last| began > last) {
            losses.count += count;
            losses.last = Some(Instant::now());
        }
    }

    fn losses(&self) -> MutexGuard<'_, Losses> {
        self.losses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swarm delivered a whole NAR, for which Nix had to wait; together its downloads bring `rate` payload bytes
    /// per second. It was asked at `began`.
    pub fn swarm_delivered(&self, began: Instant, delivery: Delivery, rate: u64) {
        let expected = self.expected(delivery.nar_size, delivery.sharing);
        if delivery.took <= with_leeway(expected) + SLACK || self.keeps_up(rate) {
            self.losses().count = 0;
        } else {
            self.lost(began, 1);
        }
    }

    /// An upstream delivered a whole NAR; it sent `sent` bytes, if that is known.
    pub fn upstream_delivered(&self, delivery: Delivery, sent: Option<u64>) {
        let Delivery {
            nar_size,
            took,
            sharing,
        } = delivery;
        let millis = (took.as_millis() as u64).max(1);
        if nar_size < RATED {
            remember(&self.delay, millis);
        } else {
            let flowing = millis.saturating_sub(self.delay.load(Relaxed)).max(1);
            let alone = |bytes: u64| bytes.saturating_mul(1000 * sharing as u64) / flowing;
            remember(&self.rate, alone(nar_size));
            remember(&self.line, alone(sent.unwrap_or(nar_size / COMPRESSION)));
        }
    }

    /// Whether all downloads together, at `rate` bytes per second, bring what an upstream would: then one that is slow
    /// only shares the line, and whoever joined in would share it too.
    pub fn keeps_up(&self, rate: u64) -> bool {
        let line = match self.line.load(Relaxed) {
            0 => ASSUMED_LINE,
            line => line,
        };
        rate.saturating_mul(23) / 20 >= line
    }

    /// How long an upstream would take for a NAR of so many bytes, when so many come over the line.
    pub fn expected(&self, bytes: u64, sharing: usize) -> Duration {
        let delay = match self.delay.load(Relaxed) {
            0 => ASSUMED_DELAY,
            millis => Duration::from_millis(millis),
        };
        let rate = match self.rate.load(Relaxed) {
            0 => ASSUMED_RATE,
            rate => rate,
        };
        delay + Duration::from_secs_f64(bytes as f64 * sharing.max(1) as f64 / rate as f64)
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
        let expected = self.expected(size, others + 1) * WORTH_A_CHANGE;
        rest > expected.as_secs_f64()
    }
}

/// Never slower by more than a seventh.
fn with_leeway(time: Duration) -> Duration {
    time * 23 / 20
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

    /// The swarm was asked so long ago, and after what was lost before.
    fn later(experience: &Experience, age: Duration) -> Instant {
        let began = Instant::now() - age;
        let mut losses = experience.losses();
        losses.last = losses.last.map(|_| began - SOON);
        began
    }

    fn deliver_late(experience: &Experience, delivery: Delivery, rate: u64) {
        later(experience, delivery.took);
        let began = Instant::now() - delivery.took;
        experience.swarm_delivered(began, delivery, rate);
    }

    fn alone(nar_size: u64, took: Duration) -> Delivery {
        Delivery {
            nar_size,
            took,
            sharing: 1,
        }
    }

    #[test]
    fn the_head_start_follows_what_was_seen() {
        let experience = Experience::default();
        let case = |prospect, expected| {
            assert_eq!(experience.swarm_head_start(prospect), expected);
        };
        case(Prospect::Nobody, Duration::ZERO);
        case(Prospect::Reachable, REACHABLE_HEAD_START);
        case(Prospect::Shown, SHOWN_HEAD_START);
        let late = |age| experience.swarm_was_late(later(&experience, age));
        late(SOON);
        late(SHOWN_HEAD_START);
        (0..16).for_each(|_| experience.swarm_was_late(Instant::now() - SHOWN_HEAD_START));
        case(Prospect::Shown, SHOWN_HEAD_START);
        late(SHOWN_HEAD_START);
        case(Prospect::Shown, Duration::ZERO);
        case(Prospect::Here, DISK_HEAD_START);
        (0..LOSSES_TO_AVOID).for_each(|_| late(REACHABLE_HEAD_START));
        assert!(!experience.avoids_swarm(), "it was given no time");
        experience.swarm_failed(later(&experience, SOON));
        experience.swarm_failed(later(&experience, SOON));
        assert!(experience.avoids_swarm());
        experience.swarm_delivered(Instant::now(), alone(1000, SOON), 0);
        assert!(!experience.avoids_swarm());
        case(Prospect::Shown, SHOWN_HEAD_START);
    }

    #[test]
    fn a_swarm_that_delivers_late_has_lost() {
        let experience = Experience::default();
        experience.upstream_delivered(alone(1000, Duration::from_millis(50)), None);
        (0..LOSSES_TO_AVOID)
            .for_each(|_| deliver_late(&experience, alone(1000, Duration::from_millis(400)), 0));
        assert!(experience.avoids_swarm());
        experience.swarm_delivered(Instant::now(), alone(1000, Duration::from_millis(200)), 0);
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
        experience.upstream_delivered(alone(50_000_000, seconds(1)), None);
        assert!(case(10_000_000, 5, 100_000_000), "45 s against 2 s");
        assert!(!case(50_000_000, 3, 100_000_000), "3 s against 2 s");
        assert!(
            !experience.is_too_slow(10_000_000, seconds(1), 90_000_000, 100_000_000, 7),
            "the line has eight"
        );
        experience.upstream_delivered(alone(100, seconds(100)), None);
        assert!(
            !case(10_000_000, 5, 100_000_000),
            "an upstream that needs so long for little is no help"
        );
        (0..30).for_each(|_| experience.upstream_delivered(alone(100, SOON), None));
        (0..30).for_each(|_| experience.upstream_delivered(alone(1_000_000, seconds(1)), None));
        assert!(!case(10_000_000, 5, 100_000_000), "45 s against 100 s");
    }

    #[test]
    fn a_swarm_that_fills_the_line_is_not_late() {
        let experience = Experience::default();
        let late = Delivery {
            nar_size: 10_000_000,
            took: Duration::from_secs(60),
            sharing: 16,
        };
        (0..LOSSES_TO_AVOID).for_each(|_| deliver_late(&experience, late, ASSUMED_LINE));
        assert!(!experience.avoids_swarm());
        // Sixteen at a time, each a sixteenth of the line: 8 MB/s.
        let took = Duration::from_secs(20);
        experience.upstream_delivered(Delivery { took, ..late }, Some(10_000_000));
        assert!(experience.keeps_up(8_000_000) && !experience.keeps_up(6_000_000));
        let expected = experience.expected(10_000_000, 16);
        assert!(expected > took && expected < took + Duration::from_secs(1));
        (0..LOSSES_TO_AVOID).for_each(|_| deliver_late(&experience, late, 6_000_000));
        assert!(experience.avoids_swarm());
    }
}
