//! `/nix-cache-info`, what a binary cache says about itself.
//!
//! ```text
//! StoreDir: /nix/store
//! WantMassQuery: 1
//! Priority: 40
//! ```
//! Source: `src/libstore/binary-cache-store.cc` in NixOS/nix (`BinaryCacheStore::init`).

use std::fmt;

use super::{ParseError, StoreDir};

const WHAT: &str = "nix-cache-info";

/// Real ones have three lines.
const MAX_BYTES: usize = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheInfo {
    pub store_dir: StoreDir,
    pub want_mass_query: bool,
    /// The lower, the earlier Nix asks.
    pub priority: u32,
}

impl CacheInfo {
    /// What is not said keeps Nix's default; unknown lines are skipped.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong {
                what: WHAT,
                actual: text.len(),
                limit: MAX_BYTES,
            });
        }
        let mut info = Self {
            store_dir: StoreDir::default(),
            want_mass_query: false,
            priority: 0,
        };
        for line in text.lines() {
            let Some((field, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match field {
                "StoreDir" => info.store_dir = value.parse()?,
                "WantMassQuery" => info.want_mass_query = value == "1",
                "Priority" => {
                    info.priority = value.parse().map_err(|_| {
                        ParseError::invalid("Priority", value, "it is not a small number")
                    })?;
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

impl fmt::Display for CacheInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "StoreDir: {}", self.store_dir)?;
        writeln!(f, "WantMassQuery: {}", u8::from(self.want_mass_query))?;
        writeln!(f, "Priority: {}", self.priority)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn parsed() {
        #[track_caller]
        fn case(text: &str, store_dir: &str, want_mass_query: bool, priority: u32) {
            let info = CacheInfo {
                store_dir: store_dir.parse().unwrap(),
                want_mass_query,
                priority,
            };
            assert_eq!(CacheInfo::parse(text).unwrap(), info);
            assert_eq!(CacheInfo::parse(&info.to_string()).unwrap(), info);
        }
        case(
            "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n",
            "/nix/store",
            true,
            40,
        );
        case("StoreDir: /gnu/store", "/gnu/store", false, 0);
        case("Hello\nX: y\r\nPriority: 7\r\n", "/nix/store", false, 7);
        case("", "/nix/store", false, 0);
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            CacheInfo::parse(text).unwrap_err();
        }
        case("StoreDir: store\n");
        case("Priority: high\n");
        case("Priority: -1\n");
        case(&"x".repeat(MAX_BYTES + 1));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = CacheInfo::parse(&text);
        }
    }
}
