//! Sizes (`5GB`), rates (`2MB/s`), durations (`5s`) and amounts of a release (`500GB`, `20%`) as people write them: decimal suffixes, whole numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum UnitError {
    #[error("'{0}' is not a size: write a whole number and B, kB, MB, GB or TB, for example 5GB")]
    Size(String),
    #[error("'{0}' is not a rate: write a size per second, for example 2MB/s")]
    Rate(String),
    #[error("'{0}' is not a duration: write a whole number and ms, s, m, h or d, for example 5s")]
    Span(String),
    #[error("'{0}' is not an amount: write a size, or a part of the release up to 100%")]
    Amount(String),
}

/// A number of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

/// Bytes per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate(pub u64);

/// A duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub Duration);

/// How much of a release; checked, and no use is made of it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount;

fn number<'a>(text: &'a str, units: &[(&str, u64)]) -> Option<(u64, &'a str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (digits, unit) = text.split_at(digits);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    Some((digits.parse::<u64>().ok()?.checked_mul(factor)?, unit))
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const UNITS: [(&str, u64); 6] = [
            ("", 1),
            ("B", 1),
            ("kB", 1000),
            ("MB", 1_000_000),
            ("GB", 1_000_000_000),
            ("TB", 1_000_000_000_000),
        ];
        number(text, &UNITS)
            .map(|(bytes, _)| Self(bytes))
            .ok_or_else(|| UnitError::Size(text.to_owned()))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let size = text
            .strip_suffix("/s")
            .and_then(|size| size.parse::<Size>().ok());
        size.map(|size| Self(size.0))
            .ok_or_else(|| UnitError::Rate(text.to_owned()))
    }
}

impl FromStr for Amount {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let percent = text.strip_suffix('%').and_then(|part| part.parse().ok());
        let known = percent.is_some_and(|percent| (1..=100).contains(&percent));
        match known || text.parse::<Size>().is_ok() {
            true => Ok(Self),
            false => Err(UnitError::Amount(text.to_owned())),
        }
    }
}

impl FromStr for Span {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        const UNITS: [(&str, u64); 5] = [
            ("ms", 1),
            ("s", 1000),
            ("m", 60_000),
            ("h", 3_600_000),
            ("d", 86_400_000),
        ];
        let found = number(text, &UNITS).map(|(ms, _)| Self(Duration::from_millis(ms)));
        found.ok_or_else(|| UnitError::Span(text.to_owned()))
    }
}

impl fmt::Display for Size {
    /// Three figures, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
        let (mut value, mut unit) = (self.0 as f64, 0);
        while value >= 999.5 && unit + 1 < UNITS.len() {
            value /= 1000.0;
            unit += 1;
        }
        match (unit, value) {
            (0, _) => write!(f, "{} B", self.0),
            (_, v) if v < 10.0 => write!(f, "{v:.2} {}", UNITS[unit]),
            (_, v) if v < 100.0 => write!(f, "{v:.1} {}", UNITS[unit]),
            (_, v) => write!(f, "{v:.0} {}", UNITS[unit]),
        }
    }
}

macro_rules! deserialize_from_str {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    )*};
}
deserialize_from_str!(Size, Rate, Span);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        let size = |text: &str, bytes: u64| assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        size("0", 0);
        size("7B", 7);
        size("5GB", 5_000_000_000);
        size("20kB", 20_000);
        assert_eq!("2MB/s".parse(), Ok(Rate(2_000_000)));
        assert_eq!("500ms".parse(), Ok(Span(Duration::from_millis(500))));
        assert_eq!("10m".parse(), Ok(Span(Duration::from_secs(600))));
        for bad in ["", "GB", "5 GB", "5GiB", "-1", "1.5GB", "99999999999TB"] {
            assert!(bad.parse::<Size>().is_err(), "{bad}");
        }
        for good in ["500GB", "20%", "100%"] {
            assert!(good.parse::<Amount>().is_ok(), "{good}");
        }
        for bad in ["a lot", "0%", "101%", "%", ""] {
            assert!(bad.parse::<Amount>().is_err(), "{bad}");
        }
        assert!("2MB".parse::<Rate>().is_err() && "5".parse::<Span>().is_err());
    }

    #[test]
    fn shown_with_three_figures() {
        for (bytes, shown) in [
            (0, "0 B"),
            (999, "999 B"),
            (1500, "1.50 kB"),
            (999_600, "1.00 MB"),
            (123_456_789, "123 MB"),
        ] {
            assert_eq!(Size(bytes).to_string(), shown);
        }
    }
}
