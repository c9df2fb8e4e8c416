//! One line of the doctor's page.

use std::fmt;

use serde_json::{Value, json};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Ok,
    /// Works, but less well than it could.
    Warn,
    /// Does not work: the exit code says so too.
    Fail,
    /// Switched off, or not to be told from here.
    Unknown,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Unknown => "-",
        }
    }
}

pub struct Finding {
    pub state: State,
    what: &'static str,
    found: String,
    /// What to do about it.
    remedy: Option<String>,
}

impl Finding {
    pub fn ok(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Ok, what, found.into(), None)
    }

    pub fn warn(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(State::Warn, what, found.into(), Some(remedy.into()))
    }

    pub fn fail(what: &'static str, found: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(State::Fail, what, found.into(), Some(remedy.into()))
    }

    pub fn unknown(what: &'static str, found: impl Into<String>) -> Self {
        Self::new(State::Unknown, what, found.into(), None)
    }

    fn new(state: State, what: &'static str, found: String, remedy: Option<String>) -> Self {
        Self {
            state,
            what,
            found,
            remedy,
        }
    }

    pub fn json(&self) -> Value {
        json!({
            "name": self.what, "state": self.state.as_str().to_lowercase(), "found": self.found, "remedy": self.remedy,
        })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:4} {:13} {}",
            self.state.as_str(),
            self.what,
            self.found
        )?;
        match &self.remedy {
            Some(remedy) => writeln!(f, "{:19}-> {remedy}", ""),
            None => Ok(()),
        }
    }
}
