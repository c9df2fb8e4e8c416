//! What was seen of the swarm and of the upstreams lately, and how long one is given before the other is brought in.
//!
//! A second source costs a request and perhaps some bytes; a source that is waited for in vain costs Nix time. So the
//! swarm gets a head start only when it has shown something, less when it keeps losing, and none when it is in
//! disrepute: then it is tried again where Nix does not wait for it, ahead of what is asked.

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
const ASSUMED_RATE: f64 = 10e6;
/// The same as it goes over the line, compressed.
const ASSUMED_LINE: f64 = ASSUMED_RATE / COMPRESSION as f64;
/// How many NAR bytes a byte on the line makes, where nobody says it.
pub const COMPRESSION: u64 = 3;
/// Nobody is called slow for what a busy machine does: never slower by more than a seventh means so much of a second
/// in a closure, and less than that is noise.
const SLACK: Duration = Duration::from_millis(150);
/// How much of the newest measurement goes into what is remembered: a quarter.
const MEMORY: u32 = 4;
/// Never slower by more than a seventh.
const LEEWAY: f64 = 1.15;

#[derive(Default)]
pub struct Experience {
    losses: Mutex<Losses>,
    seen: Mutex<Seen>,
}

/// Of the upstreams' NARs.
#[derive(Default)]
struct Seen {
    /// From the question to the answer's head.
    delay: Option<Duration>,
    flow: Flow,
}

/// What came of them from then on, and what else came over the line meanwhile; the older, the less it counts.
struct Flow {
    /// NAR bytes.
    nar: f64,
    /// The same as it was sent, compressed.
    sent: f64,
    /// All that came over the line meanwhile, from wherever.
    line: f64,
    seconds: f64,
}

/// One second of what is assumed: a single small NAR says too little.
impl Default for Flow {
    fn default() -> Self {
        Self {
            nar: ASSUMED_RATE,
            sent: ASSUMED_LINE,
            line: ASSUMED_LINE,
            seconds: 1.0,
        }
    }
}

impl Flow {
    /// Bytes per second of the line.
    fn line_rate(&self) -> f64 {
        self.line / self.seconds
    }

    /// NAR bytes per second of an upstream that has the line for itself.
    fn nar_rate(&self) -> f64 {
        self.line_rate() * self.nar / self.sent
    }
}

/// The swarm's, since it last delivered in time.
#[derive(Default)]
struct Losses {
    count: u32,
    last: Option<Instant>,
}

/// A whole NAR of an upstream.
#[derive(Clone, Copy)]
pub struct Fetched {
    pub nar_size: u64,
    /// As it went over the line, compressed.
    pub sent: u64,
    /// All bytes that came over the line while it flowed, its own included.
    pub line: u64,
    /// From the question to the answer's head.
    pub delay: Duration,
    /// From there to the end.
    pub flowed: Duration,
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

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut seen = self.seen();
        seen.delay = match seen.delay {
            None => Some(fetched.delay),
            Some(before) => Some((before * (MEMORY - 1) + fetched.delay) / MEMORY),
        };
        // What comes at one go says nothing of a rate.
        if fetched.nar_size >= RATED {
            let flow = &mut seen.flow;
            for part in [
                &mut flow.nar,
                &mut flow.sent,
                &mut flow.line,
                &mut flow.seconds,
            ] {
                *part *= 1.0 - 1.0 / f64::from(MEMORY);
            }
            flow.nar += fetched.nar_size as f64;
            flow.sent += fetched.sent.max(1) as f64;
            flow.line += fetched.line.max(fetched.sent).max(1) as f64;
            flow.seconds += fetched.flowed.as_secs_f64().max(0.001);
        }
    }

    /// Whether `rate` bytes per second are what the line brings when upstreams are asked: then whoever is slow only
    /// shares it, and whoever joined in would share it too.
    pub fn fills_the_line(&self, rate: u64) -> bool {
        rate as f64 * LEEWAY >= self.seen().flow.line_rate()
    }

    /// How long an upstream would take for a NAR of so many bytes, when so many come over the line.
    pub fn expected(&self, bytes: u64, sharing: usize) -> Duration {
        let seen = self.seen();
        let flowing = bytes as f64 * sharing.max(1) as f64 / seen.flow.nar_rate();
        seen.delay.unwrap_or(ASSUMED_DELAY) + Duration::from_secs_f64(flowing)
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
            experience.is_too_slow(came, seconds(waited), size - came, size, 0)
        };
        assert!(!case(1, 0, 100_000_000), "too early to tell");
        assert!(case(100_000, 5, 100_000_000), "20 kB/s");
        assert!(!case(99_900_000, 5, 100_000_000), "nearly done");
        experience.upstream_delivered(fetched(50_000_000, SOON, 1000));
        assert!(case(10_000_000, 5, 100_000_000), "45 s against 2 s");
        assert!(!case(50_000_000, 3, 100_000_000), "3 s against 2 s");
        assert!(
            !experience.is_too_slow(10_000_000, seconds(1), 90_000_000, 100_000_000, 7),
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
