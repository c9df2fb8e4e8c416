//! What came from where and what was given, per day and channel; kept across restarts in `STATE/accounting.json`.
//!
//! A sample: `[{"day":"2026-11-24","channel":"nixos-unstable","store":0,"swarm":812,"upstream":0,"uploaded":5120}]`.
//! Days are UTC. What no channel lists stands under the channel "".

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::counters::Source;
use super::new_file::{Readers, write_new};

/// More than a year; then the oldest go.
const MAX_DAYS: usize = 400;
/// Channels counted apart on one day; the rest stands under "".
const MAX_CHANNELS: usize = 64;
/// A file of this size is not ours: 400 days of 64 channels are 4 MB.
const MAX_FILE: u64 = 16 << 20;
const SECONDS_PER_DAY: u64 = 86_400;

/// One day of one channel, in bytes: of NARs for the three sources, of payloads for what was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    pub day: String,
    pub channel: String,
    pub store: u64,
    pub swarm: u64,
    pub upstream: u64,
    pub uploaded: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    store: u64,
    swarm: u64,
    upstream: u64,
    uploaded: u64,
}

#[derive(Default)]
pub struct Accounting {
    days: Mutex<Days>,
    /// Nowhere, if it is not kept.
    path: Option<PathBuf>,
}

#[derive(Default)]
struct Days {
    /// By day since 1970 and channel.
    sums: BTreeMap<u64, BTreeMap<String, Sums>>,
    changed: bool,
}

impl Accounting {
    /// What an earlier run left. A file that cannot be read is put aside: its bytes may still be of use to a person.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut days = Days::default();
        match read(path) {
            Ok(accounts) => accounts
                .into_iter()
                .filter_map(|account| Some((parse_day(&account.day)?, account)))
                .for_each(|(day, account)| {
                    let sums = days.on(day, &account.channel);
                    sums.store += account.store;
                    sums.swarm += account.swarm;
                    sums.upstream += account.upstream;
                    sums.uploaded += account.uploaded;
                }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!(path = %path.display(), %error, "the accounting begins anew");
                fs::rename(path, path.with_extension("damaged"))?;
            }
            Err(error) => return Err(error),
        }
        Ok(Self {
            days: Mutex::new(days),
            path: Some(path.to_owned()),
        })
    }

    pub fn served(&self, channel: &str, source: Source, bytes: u64) {
        let mut days = self.lock();
        let sums = days.on(today(), channel);
        match source {
            Source::Store => sums.store += bytes,
            Source::Swarm => sums.swarm += bytes,
            Source::Upstream => sums.upstream += bytes,
        }
    }

    pub fn uploaded(&self, channel: &str, bytes: u64) {
        self.lock().on(today(), channel).uploaded += bytes;
    }

    /// The newest `days` days, the newest first.
    pub fn newest(&self, days: usize) -> Vec<Account> {
        let all = self.lock();
        let days = all.sums.iter().rev().take(days);
        days.flat_map(|(day, channels)| channels.iter().map(|sums| account(*day, sums)))
            .collect()
    }

    /// Writes what has changed, and what could not be written before. A crash costs what was counted since, never what
    /// was written.
    pub fn save(&self) -> io::Result<()> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        if !std::mem::take(&mut self.lock().changed) {
            return Ok(());
        }
        self.write(path).inspect_err(|_| self.lock().changed = true)
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let json = serde_json::to_vec(&self.newest(MAX_DAYS)).map_err(io::Error::other)?;
        write_new(path, &json, Readers::Owner)
    }

    fn lock(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Days {
    fn on(&mut self, day: u64, channel: &str) -> &mut Sums {
        self.changed = true;
        while self.sums.len() > MAX_DAYS {
            self.sums.pop_first();
        }
        let channels = self.sums.entry(day).or_default();
        let known = channels.contains_key(channel) || channels.len() < MAX_CHANNELS;
        let channel = if known { channel } else { "" };
        channels.entry(channel.to_owned()).or_default()
    }
}

fn read(path: &Path) -> io::Result<Vec<Account>> {
    if path.metadata()?.len() > MAX_FILE {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "larger than any accounting",
        ));
    }
    // Whatever is wrong with it: half a file is damage too.
    serde_json::from_slice(&fs::read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

fn account(day: u64, (channel, sums): (&String, &Sums)) -> Account {
    Account {
        day: format_day(day),
        channel: channel.clone(),
        store: sums.store,
        swarm: sums.swarm,
        upstream: sums.upstream,
        uploaded: sums.uploaded,
    }
}

fn today() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_secs() / SECONDS_PER_DAY)
}

fn format_day(day: u64) -> String {
    let seconds = i64::try_from(day * SECONDS_PER_DAY).unwrap_or(i64::MAX);
    let time = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    time.strftime("%Y-%m-%d").to_string()
}

fn parse_day(text: &str) -> Option<u64> {
    let date: jiff::civil::Date = text.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    u64::try_from(midnight.timestamp().as_second())
        .ok()
        .map(|seconds| seconds / SECONDS_PER_DAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_channels_survive_a_restart_and_damage_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("accounting.json");
        let accounting = Accounting::open(&path).unwrap();
        accounting.served("a", Source::Swarm, 5);
        accounting.served("a", Source::Store, 1);
        accounting.uploaded("b", 7);
        accounting.save().unwrap();
        let accounting = Accounting::open(&path).unwrap();
        accounting.uploaded("a", 2);
        let accounts = accounting.newest(1);
        let sums = |account: &Account| (account.store, account.swarm, account.uploaded);
        assert_eq!(
            accounts.iter().map(sums).collect::<Vec<_>>(),
            [(1, 5, 2), (0, 0, 7)]
        );
        assert_eq!(accounts[0].day, format_day(today()));
        // Where nothing can be put for a while it is written later.
        let away = directory.path().with_extension("away");
        fs::rename(directory.path(), &away).unwrap();
        assert!(accounting.save().is_err());
        fs::rename(&away, directory.path()).unwrap();
        accounting.save().unwrap();
        let again = Accounting::open(&path).unwrap().newest(1);
        assert_eq!(again[0].uploaded, 2);
        fs::write(&path, "[{").unwrap();
        assert_eq!(Accounting::open(&path).unwrap().newest(9), []);
        assert!(directory.path().join("accounting.damaged").exists());
    }

    #[test]
    fn it_is_bounded() {
        let mut days = Days::default();
        for day in 0..MAX_DAYS as u64 + 50 {
            days.on(day, "a");
        }
        for channel in 0..MAX_CHANNELS + 10 {
            days.on(1000, &channel.to_string());
        }
        assert!(days.sums.len() <= MAX_DAYS + 1);
        assert!(days.sums[&1000].len() <= MAX_CHANNELS + 1);
    }

    #[test]
    fn days_are_dates() {
        assert_eq!(format_day(0), "1970-01-01");
        assert_eq!(format_day(20_781), "2026-11-24");
        assert_eq!(parse_day("2026-11-24"), Some(20_781));
        assert_eq!(parse_day("1969-12-31"), None);
        assert_eq!(parse_day("tomorrow"), None);
    }
}
