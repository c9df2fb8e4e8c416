//! The logical store directory, `/nix/store` nearly everywhere.

use std::{fmt, str::FromStr};

use super::ParseError;

const WHAT: &str = "store dir";

/// A quarter of Linux's PATH_MAX: a store path and files below it have to fit behind it.
const MAX_BYTES: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreDir(Box<str>);

impl StoreDir {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".into())
    }
}

impl FromStr for StoreDir {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| Err(ParseError::invalid(WHAT, text, reason));
        if text.len() > MAX_BYTES {
            return Err(ParseError::TooLong {
                what: WHAT,
                actual: text.len(),
                limit: MAX_BYTES,
            });
        }
        let Some(below_root) = text.strip_prefix('/') else {
            return refuse("it is not absolute");
        };
        if below_root
            .split('/')
            .any(|component| matches!(component, "" | "." | ".."))
        {
            return refuse("it is not normalised");
        }
        // It stands in lines of narinfos and between spaces.
        if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return refuse("it contains white space or a control character");
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepted() {
        #[track_caller]
        fn case(text: &str) {
            assert_eq!(text.parse::<StoreDir>().unwrap().as_str(), text);
        }
        case("/nix/store");
        case("/gnu/store");
        case("/home/a.b/..c/store");
        assert_eq!(StoreDir::default(), "/nix/store".parse().unwrap());
    }

    #[test]
    fn refused() {
        #[track_caller]
        fn case(text: &str) {
            text.parse::<StoreDir>().unwrap_err();
        }
        case("");
        case("/");
        case("nix/store");
        case("/nix/store/");
        case("/nix//store");
        case("/nix/./store");
        case("/nix/../store");
        case("/nix/st ore");
        case("/nix/store\nSig: x");
        case(&format!("/{}", "x".repeat(MAX_BYTES)));
    }
}
