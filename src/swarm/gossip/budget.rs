//! What one neighbour may ask of us: buckets that fill again with time. A flood ends the connection.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};

/// Messages a second, and at once: have-maps of many layers come in one go.
const MESSAGES: (u32, u32) = (20, 400);
/// Bytes: the have-maps of a million rows at once, then what deltas need many times over.
const BYTES: (u32, u32) = (32 * 1024, 4 * 1024 * 1024);
/// Rows asked by who-has: a machine's first closure at once, then what a person installs.
const ROWS: (u32, u32) = (100, 8192);
/// Info dicts asked for; each may cost a look into the database.
const DICTS: (u32, u32) = (50, 4096);
/// Connections that we open for a neighbour.
const DIALS: (u32, u32) = (1, 16);
/// Between two lists of peers, and so many at once: in a crowd one new neighbour after another is told of.
const PEERS_INTERVAL: Duration = Duration::from_secs(20);
const PEERS_BURST: u32 = 8;

pub struct Budget {
    messages: DefaultDirectRateLimiter,
    bytes: DefaultDirectRateLimiter,
    rows: DefaultDirectRateLimiter,
    dicts: DefaultDirectRateLimiter,
    dials: DefaultDirectRateLimiter,
    /// `None` takes nothing.
    peers: Option<DefaultDirectRateLimiter>,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            messages: bucket(MESSAGES),
            bytes: bucket(BYTES),
            rows: bucket(ROWS),
            dicts: bucket(DICTS),
            dials: bucket(DIALS),
            peers: Quota::with_period(PEERS_INTERVAL)
                .map(|quota| RateLimiter::direct(quota.allow_burst(at_least_one(PEERS_BURST)))),
        }
    }
}

impl Budget {
    /// Whether one more message of so many bytes is no flood.
    pub fn takes_message(&self, bytes: usize) -> bool {
        takes(&self.messages, 1) && takes(&self.bytes, bytes)
    }

    pub fn takes_rows(&self, rows: usize) -> bool {
        takes(&self.rows, rows)
    }

    pub fn takes_dicts(&self, dicts: usize) -> bool {
        takes(&self.dicts, dicts)
    }

    pub fn takes_dial(&self) -> bool {
        takes(&self.dials, 1)
    }

    pub fn takes_peers(&self) -> bool {
        self.peers.as_ref().is_some_and(|peers| takes(peers, 1))
    }
}

fn bucket((per_second, burst): (u32, u32)) -> DefaultDirectRateLimiter {
    let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
    RateLimiter::direct(quota)
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN)
}

fn takes(bucket: &DefaultDirectRateLimiter, amount: usize) -> bool {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    match NonZeroU32::new(amount) {
        None => true,
        Some(amount) => matches!(bucket.check_n(amount), Ok(Ok(()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_does_not() {
        let budget = Budget::default();
        let passed = (0..10_000).filter(|_| budget.takes_message(10)).count();
        assert!((400..450).contains(&passed), "{passed}");
        assert!(!Budget::default().takes_message(5 * 1024 * 1024));
        assert!(Budget::default().takes_rows(8192));
        assert!(!Budget::default().takes_rows(8193));
        assert!(Budget::default().takes_rows(0));
        let lists = (0..100).filter(|_| budget.takes_peers()).count();
        assert_eq!(lists, PEERS_BURST as usize);
    }
}
