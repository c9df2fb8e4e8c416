//! Why a text is not what Nix would write there.

use thiserror::Error;

/// A value from outside is shown in a message, but not a megabyte of it.
const SHOWN_CHARS: usize = 120;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParseError {
    #[error("parse {what} `{value}`: {reason}")]
    Invalid {
        what: &'static str,
        value: String,
        reason: &'static str,
    },
    #[error("parse {what}: {actual} bytes, more than {limit}")]
    TooLong {
        what: &'static str,
        actual: usize,
        limit: usize,
    },
    #[error("parse {what}: more than {limit} {field}")]
    TooMany {
        what: &'static str,
        field: &'static str,
        limit: usize,
    },
    #[error("parse {what}: `{field}` is missing")]
    Missing {
        what: &'static str,
        field: &'static str,
    },
    #[error("parse {what}: `{field}` stands there twice")]
    Twice {
        what: &'static str,
        field: &'static str,
    },
}

impl ParseError {
    pub(super) fn invalid(what: &'static str, value: &str, reason: &'static str) -> Self {
        let mut shown: String = value
            .chars()
            .take(SHOWN_CHARS)
            .flat_map(char::escape_debug)
            .collect();
        if value.chars().nth(SHOWN_CHARS).is_some() {
            shown.push('…');
        }
        Self::Invalid {
            what,
            value: shown,
            reason,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_values_are_cut_and_control_characters_escaped() {
        let error = ParseError::invalid("name", &format!("a\n{}", "x".repeat(500)), "it is long");
        let text = error.to_string();
        assert!(text.starts_with("parse name `a\\nxxx"), "{text}");
        assert!(text.ends_with("x…`: it is long"), "{text}");
        assert!(text.len() < 200);
    }
}
