//! What was seen of the swarm and of the upstreams lately, and how long one is given before the other is brought in.
//!
//! A second source costs a request and perhaps some bytes; a source that is waited for in vain costs Nix time. So the
//! swarm gets a head start only when it has shown something, less when it keeps losing, and none when it is in
//! disrepute: then it is tried again where Nix does not wait for it, ahead of what is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::swarm::Prospect;

use super::line_speed::{Fetched, LineSpeed, RATED};

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
/// A source is too slow when an upstream would have the whole NAR so many times sooner than it the rest.
const WORTH_A_CHANGE: u32 = 2;
/// Nobody is called slow for what a busy machine does: never slower by more than a seventh means so much of a second
/// in a closure, and less than that is noise.
const SLACK: Duration = Duration::from_millis(150);
/// Never slower by more than a seventh.
const LEEWAY: f64 = 1.15;

#[derive(Default)]
pub struct Experience {
    losses: Mutex<Losses>,
    speed: Mutex<LineSpeed>,
}

/// The swarm's, since it last delivered in time.
#[derive(Default)]
struct Losses {
    count: u32,
    last: Option<Instant>,
}

/// What else goes on where a NAR comes from.
#[derive(Clone, Copy)]
pub struct LineUse {
    /// NARs that share the line, and would share it with another source too.
    pub others: usize,
    pub full: bool,
}

/// What the swarm had to bring, and how long that took.
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

    fn speed(&self) -> MutexGuard<'_, LineSpeed> {
        self.speed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The swarm delivered a whole NAR, for which Nix had to wait; over the line come `rate` bytes per second. It
    /// was asked at `began`. A full line excuses one that is late, no more.
    pub fn swarm_delivered(&self, began: Instant, delivery: Delivery, rate: u64) {
        let expected = self.expected(delivery.nar_size, delivery.sharing);
        let in_time = delivery.took <= expected.mul_f64(LEEWAY) + SLACK;
        if in_time {
            self.losses().count = 0;
        } else if !self.fills_the_line(rate) {
            self.lost(began, 1);
        }
    }

    /// An upstream delivered a whole NAR.
    pub fn upstream_delivered(&self, fetched: Fetched) {
        self.speed().measured(fetched);
    }

    /// Whether `rate` bytes per second are what the line brings when upstreams are asked: then whoever is slow only
    /// shares it, and whoever joined in would share it too.
    pub fn fills_the_line(&self, rate: u64) -> bool {
        rate as f64 * LEEWAY >= self.speed().line_rate()
    }

    /// How long an upstream would take for a NAR of so many bytes, when so many come over the line.
    pub fn expected(&self, bytes: u64, sharing: usize) -> Duration {
        self.speed().expected(bytes, sharing)
    }

    /// Whether an upstream would have the whole NAR long before the rest of it has come as the bytes so far did. Whoever
    /// joined in on a full line would only share it: there each has the time that its share takes, but no more.
    pub fn is_too_slow(
        &self,
        came: u64,
        waited: Duration,
        rest: u64,
        size: u64,
        line: LineUse,
    ) -> bool {
        if waited < EARLY || rest < RATED {
            return false;
        }
        let expected = self.expected(size, line.others + 1);
        if line.full && waited <= expected {
            return false;
        }
        let rest = waited.as_secs_f64() * rest as f64 / came.max(1) as f64;
        rest > (expected * WORTH_A_CHANGE).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::substitute::line_speed::ASSUMED_LINE;

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

    fn shared(others: usize) -> LineUse {
        LineUse {
            others,
            full: false,
        }
    }

    /// Uncompressed, the line for itself.
    fn fetched(nar_size: u64, delay: Duration, flowed: u64) -> Fetched {
        Fetched {
            nar_size,
            sent: nar_size,
            line: nar_size,
            delay,
            flowed: Duration::from_millis(flowed),
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
        experience.upstream_delivered(fetched(1000, Duration::from_millis(50), 1));
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
            experience.is_too_slow(came, seconds(waited), size - came, size, shared(0))
        };
        assert!(!case(1, 0, 100_000_000), "too early to tell");
        assert!(case(100_000, 5, 100_000_000), "20 kB/s");
        assert!(!case(99_900_000, 5, 100_000_000), "nearly done");
        experience.upstream_delivered(fetched(50_000_000, SOON, 1000));
        assert!(case(10_000_000, 5, 100_000_000), "45 s against 2 s");
        assert!(!case(50_000_000, 3, 100_000_000), "3 s against 2 s");
        assert!(
            !experience.is_too_slow(10_000_000, seconds(1), 90_000_000, 100_000_000, shared(7)),
            "the line has eight"
        );
        experience.upstream_delivered(fetched(100, seconds(100), 1));
        assert!(
            !case(10_000_000, 5, 100_000_000),
            "an upstream that needs so long for little is no help"
        );
        (0..30).for_each(|_| experience.upstream_delivered(fetched(100, SOON, 1)));
        (0..30).for_each(|_| experience.upstream_delivered(fetched(1_000_000, SOON, 1000)));
        assert!(!case(10_000_000, 5, 100_000_000), "45 s against 100 s");
    }

    #[test]
    fn on_a_full_line_each_has_the_time_of_its_share() {
        let experience = Experience::default();
        (0..30).for_each(|_| experience.upstream_delivered(fetched(1_000_000, SOON, 1000)));
        // A fifth of 1 MB/s for 10 MB: 50 s. It trickles.
        let slow = |waited, full| {
            let (size, waited) = (10_000_000, Duration::from_secs(waited));
            let line = LineUse { others: 4, full };
            experience.is_too_slow(1000, waited, size - 1000, size, line)
        };
        assert!(slow(2, false) && !slow(2, true) && !slow(49, true));
        assert!(slow(52, true), "nobody holds a NAR for ever");
    }

    #[test]
    fn a_swarm_that_fills_the_line_is_not_late() {
        let experience = Experience::default();
        let late = Delivery {
            nar_size: 10_000_000,
            took: Duration::from_secs(60),
            sharing: 16,
        };
        (0..LOSSES_TO_AVOID).for_each(|_| deliver_late(&experience, late, ASSUMED_LINE as u64));
        assert!(!experience.avoids_swarm());
        // A sixteenth of a line of 8 MB/s.
        let share = Fetched {
            line: 160_000_000,
            ..fetched(10_000_000, SOON, 20_000)
        };
        (0..30).for_each(|_| experience.upstream_delivered(share));
        assert!(experience.fills_the_line(8_000_000) && !experience.fills_the_line(6_000_000));
        let (expected, took) = (experience.expected(10_000_000, 16), Duration::from_secs(20));
        assert!(expected > took && expected < took + Duration::from_secs(1));
        (0..LOSSES_TO_AVOID).for_each(|_| deliver_late(&experience, late, 6_000_000));
        assert!(experience.avoids_swarm());
        deliver_late(&experience, late, 8_000_000);
        assert!(experience.avoids_swarm(), "a full line excuses, no more");
    }

    #[test]
    fn a_single_small_nar_says_little_of_the_line() {
        let experience = Experience::default();
        experience.upstream_delivered(fetched(300_000, SOON, 1000));
        assert!(!experience.fills_the_line(300_000));
        (0..30).for_each(|_| experience.upstream_delivered(fetched(300_000, SOON, 1000)));
        assert!(experience.fills_the_line(300_000));
    }
}
