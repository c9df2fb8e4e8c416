//! What upstreams and the line bring, as it was measured while NARs of upstreams came.

use std::time::Duration;

/// A NAR smaller than this says nothing of a rate, a larger one little of a delay.
pub const RATED: u64 = 256 * 1024;
/// How many NAR bytes a byte on the line makes, where nobody says it.
pub const COMPRESSION: u64 = 3;
/// An upstream that was not measured yet is taken for a good one: if it is not, one attempt shows that, while one that
/// is thought too little of is never tried.
const ASSUMED_DELAY: Duration = Duration::from_millis(200);
/// NAR bytes per second, for the same reason: cache.nixos.org on a line of 30 Mbit/s.
const ASSUMED_RATE: f64 = 10e6;
/// The same as it goes over the line, compressed.
pub const ASSUMED_LINE: f64 = ASSUMED_RATE / COMPRESSION as f64;
/// How much of the newest measurement goes into what is remembered: a quarter.
const MEMORY: u32 = 4;

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

/// Sums over the upstreams' NARs, from their answers' heads on; the older, the less they count.
pub struct LineSpeed {
    /// From the question to the answer's head.
    delay: Option<Duration>,
    /// NAR bytes.
    nar: f64,
    /// The same as it was sent, compressed.
    sent: f64,
    /// All that came over the line meanwhile, from wherever.
    line: f64,
    seconds: f64,
}

/// One second of what is assumed: a single small NAR says too little.
impl Default for LineSpeed {
    fn default() -> Self {
        Self {
            delay: None,
            nar: ASSUMED_RATE,
            sent: ASSUMED_LINE,
            line: ASSUMED_LINE,
            seconds: 1.0,
        }
    }
}

impl LineSpeed {
    pub fn measured(&mut self, fetched: Fetched) {
        self.delay = match self.delay {
            None => Some(fetched.delay),
            Some(before) => Some((before * (MEMORY - 1) + fetched.delay) / MEMORY),
        };
        // What comes at one go says nothing of a rate.
        if fetched.nar_size < RATED {
            return;
        }
        let sent = fetched.sent.max(1);
        for (sum, newest) in [
            (&mut self.nar, fetched.nar_size as f64),
            (&mut self.sent, sent as f64),
            (&mut self.line, fetched.line.max(sent) as f64),
            (&mut self.seconds, fetched.flowed.as_secs_f64().max(0.001)),
        ] {
            *sum = *sum * (1.0 - 1.0 / f64::from(MEMORY)) + newest;
        }
    }

    /// Bytes per second of the line.
    pub fn line_rate(&self) -> f64 {
        self.line / self.seconds
    }

    /// NAR bytes per second of an upstream that has the line for itself.
    fn nar_rate(&self) -> f64 {
        self.line_rate() * self.nar / self.sent
    }

    /// How long an upstream would take for a NAR of so many bytes, when so many come over the line.
    pub fn expected(&self, bytes: u64, sharing: usize) -> Duration {
        let flowing = bytes as f64 * sharing.max(1) as f64 / self.nar_rate();
        self.delay.unwrap_or(ASSUMED_DELAY) + Duration::from_secs_f64(flowing)
    }
}
