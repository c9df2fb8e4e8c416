//! How fast uploads may go: in all, per address, and by the hour of the day. All of it may change at any time.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};
use thiserror::Error;

/// What may leave in one go, however low the rate is: the largest block that anybody may ask for.
const MIN_BURST: u32 = crate::swarm::protocol::MAX_REQUEST;
/// How late a change of the hour may be noticed. Nobody wakes for it: the next block does.
const LOOK_INTERVAL: Duration = Duration::from_secs(20);
const MINUTES_PER_HOUR: u16 = 60;

/// What the configuration says. Bytes per second; `None` is unlimited.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadLimits {
    pub total: Option<u64>,
    pub per_peer: Option<u64>,
    /// The first that covers the hour stands instead of `total`.
    pub schedule: Vec<ScheduledLimit>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScheduledLimit {
    pub from: TimeOfDay,
    /// Not included; earlier than `from` means on the next day, and `from` itself the whole day.
    pub to: TimeOfDay,
    pub total: u64,
}

/// Local time, in minutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeOfDay(u16);

#[derive(Debug, Error)]
#[error("not a time of day: write HH:MM, for example 22:00; midnight is 00:00")]
pub struct TimeOfDayError;

impl FromStr for TimeOfDay {
    type Err = TimeOfDayError;

    fn from_str(text: &str) -> Result<Self, TimeOfDayError> {
        let number = |digits: &str, limit: u16| {
            let plain = digits.len() == 2 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let value: Option<u16> = digits.parse().ok();
            value.filter(|value| plain && *value < limit)
        };
        let (hours, minutes) = text.split_once(':').ok_or(TimeOfDayError)?;
        let hours = number(hours, 24).ok_or(TimeOfDayError)?;
        let minutes = number(minutes, MINUTES_PER_HOUR).ok_or(TimeOfDayError)?;
        Ok(Self(hours * MINUTES_PER_HOUR + minutes))
    }
}

/// What time it is, for those who follow a schedule.
trait Clock: Send + Sync {
    /// For how long ago something was.
    fn instant(&self) -> Instant;
    fn time_of_day(&self) -> TimeOfDay;
}

/// This machine's, in its time zone.
struct LocalClock;

impl Clock for LocalClock {
    fn instant(&self) -> Instant {
        Instant::now()
    }

    fn time_of_day(&self) -> TimeOfDay {
        let now = jiff::Zoned::now();
        TimeOfDay(now.hour() as u16 * MINUTES_PER_HOUR + now.minute() as u16)
    }
}

impl ScheduledLimit {
    fn covers(&self, time: TimeOfDay) -> bool {
        match self.from.cmp(&self.to) {
            Ordering::Less => (self.from..self.to).contains(&time),
            Ordering::Equal => true,
            Ordering::Greater => time >= self.from || time < self.to,
        }
    }
}

impl UploadLimits {
    fn total_at(&self, time: TimeOfDay) -> Option<u64> {
        let scheduled = self.schedule.iter().find(|limit| limit.covers(time));
        scheduled.map_or(self.total, |limit| Some(limit.total))
    }
}

pub struct UploadRates {
    clock: Box<dyn Clock>,
    current: RwLock<Current>,
}

struct Current {
    limits: UploadLimits,
    total: Option<u64>,
    machine: Option<Arc<DefaultDirectRateLimiter>>,
    addresses: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    looked: Instant,
}

impl Current {
    fn new(limits: UploadLimits, clock: &dyn Clock) -> Self {
        let total = limits.total_at(clock.time_of_day());
        Self {
            total,
            machine: total.map(|rate| Arc::new(RateLimiter::direct(quota(rate)))),
            addresses: limits
                .per_peer
                .map(|rate| Arc::new(RateLimiter::keyed(quota(rate)))),
            limits,
            looked: clock.instant(),
        }
    }
}

impl UploadRates {
    pub fn new(limits: UploadLimits) -> Self {
        Self::by(Box::new(LocalClock), limits)
    }

    /// By this clock.
    fn by(clock: Box<dyn Clock>, limits: UploadLimits) -> Self {
        let current = RwLock::new(Current::new(limits, &*clock));
        Self { clock, current }
    }

    /// What already waits goes by the rates that were.
    pub fn set(&self, limits: UploadLimits) {
        *self.write() = Current::new(limits, &*self.clock);
    }

    /// Waits until `bytes` may leave for `address`. Callers ask for at most one block at a time.
    pub async fn wait(&self, address: IpAddr, bytes: usize) {
        let Some(bytes) = u32::try_from(bytes).ok().and_then(NonZeroU32::new) else {
            return;
        };
        self.look();
        let (machine, addresses) = {
            let current = self.read();
            (current.machine.clone(), current.addresses.clone())
        };
        // Both only fail when more is asked than the bucket holds, which MIN_BURST excludes.
        if let Some(addresses) = addresses {
            let _ = addresses.until_key_n_ready(&address, bytes).await;
        }
        if let Some(machine) = machine {
            let _ = machine.until_n_ready(bytes).await;
        }
    }

    /// Follows the clock.
    fn look(&self) {
        let now = self.clock.instant();
        if now.duration_since(self.read().looked) <= LOOK_INTERVAL {
            return;
        }
        let mut current = self.write();
        current.looked = now;
        if let Some(addresses) = &current.addresses {
            // Those that are gone need no bucket.
            addresses.retain_recent();
        }
        let total = current.limits.total_at(self.clock.time_of_day());
        if total != current.total {
            tracing::info!(?total, "the upload limit of this hour");
            current.total = total;
            current.machine = total.map(|rate| Arc::new(RateLimiter::direct(quota(rate))));
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Current> {
        self.current.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Current> {
        self.current.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn quota(bytes_per_second: u64) -> Quota {
    let number = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
    let rate = u32::try_from(bytes_per_second).unwrap_or(u32::MAX);
    Quota::per_second(number(rate)).allow_burst(number(rate.max(MIN_BURST)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    impl UploadRates {
        fn total(&self) -> Option<u64> {
            self.look();
            self.read().total
        }
    }

    /// Put forward by hand; at first it is 21:59.
    #[derive(Clone)]
    struct Wound {
        start: Instant,
        seconds: Arc<AtomicU64>,
    }

    impl Wound {
        fn new() -> Self {
            Self {
                start: Instant::now(),
                seconds: Arc::default(),
            }
        }

        fn forward(&self, seconds: u64) {
            self.seconds.fetch_add(seconds, Relaxed);
        }
    }

    impl Clock for Wound {
        fn instant(&self) -> Instant {
            self.start + Duration::from_secs(self.seconds.load(Relaxed))
        }

        fn time_of_day(&self) -> TimeOfDay {
            let minutes = u64::from(time("21:59").0) + self.seconds.load(Relaxed) / 60;
            TimeOfDay((minutes % (24 * u64::from(MINUTES_PER_HOUR))) as u16)
        }
    }

    fn scheduled(from: &str, to: &str, total: u64) -> ScheduledLimit {
        ScheduledLimit {
            from: time(from),
            to: time(to),
            total,
        }
    }

    fn time(text: &str) -> TimeOfDay {
        text.parse().unwrap()
    }

    #[test]
    fn times_of_day_parse() {
        assert_eq!(time("07:05"), TimeOfDay(7 * 60 + 5));
        for bad in [
            "", "7:00", "24:00", "12:60", "12", "12:00:00", "+1:00", "aa:bb",
        ] {
            assert!(bad.parse::<TimeOfDay>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_hour_decides() {
        let limits = UploadLimits {
            total: Some(1),
            per_peer: None,
            schedule: vec![
                scheduled("22:00", "07:00", 20),
                scheduled("06:00", "08:30", 5),
            ],
        };
        let case =
            |at: &str, expected| assert_eq!(limits.total_at(time(at)), Some(expected), "{at}");
        case("21:59", 1);
        case("22:00", 20);
        case("00:00", 20);
        case("06:59", 20);
        case("07:00", 5);
        case("08:30", 1);
    }

    #[test]
    fn from_a_time_to_the_same_is_the_whole_day() {
        for bound in ["00:00", "22:00"] {
            let limit = scheduled(bound, bound, 20);
            for at in ["00:00", "21:59", "22:00", "23:59"] {
                assert!(limit.covers(time(at)), "{bound} {at}");
            }
        }
    }

    #[tokio::test]
    async fn the_limit_follows_the_clock() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let limits = UploadLimits {
            total: Some(1),
            per_peer: None,
            schedule: vec![scheduled("22:00", "07:00", 1 << 30)],
        };
        let clock = Wound::new();
        let rates = UploadRates::by(Box::new(clock.clone()), limits);
        assert_eq!(rates.total(), Some(1));
        rates.wait(address, MIN_BURST as usize).await;
        let mut again = std::pin::pin!(rates.wait(address, MIN_BURST as usize));
        assert!(futures_util::poll!(&mut again).is_pending());
        // At 22:00 the next block goes by the new limit.
        clock.forward(60);
        let next = std::pin::pin!(rates.wait(address, MIN_BURST as usize));
        assert!(futures_util::poll!(next).is_ready());
        assert_eq!(rates.total(), Some(1 << 30));
        // At 07:00 nobody may have asked for a block.
        clock.forward(9 * 3600);
        assert_eq!(rates.total(), Some(1));
    }

    #[tokio::test]
    async fn limits_hold_per_address_and_change_at_once() {
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let rates = UploadRates::new(UploadLimits {
            per_peer: Some(1),
            ..UploadLimits::default()
        });
        let block = MIN_BURST as usize;
        rates.wait(one, block).await;
        let mut again = std::pin::pin!(rates.wait(one, block));
        assert!(futures_util::poll!(&mut again).is_pending());
        rates.wait(other, block).await;
        rates.set(UploadLimits::default());
        rates.wait(one, block).await;
        assert_eq!(rates.total(), None);
    }
}
