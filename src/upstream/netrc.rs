//! Passwords of upstreams, as nix.conf's `netrc-file` has them (curl reads it there, this is read here):
//! ```text
//! # a comment
//! machine cache.example.org login me password secret
//! machine other.example.org
//!   password "with a \"quote\" and a space"
//! default login anonymous password me@example.org
//! ```

use std::fmt;
use std::iter::Peekable;
use std::str::Chars;

use thiserror::Error;

/// Who asks an upstream.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub login: String,
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:***", self.login)
    }
}

/// The entries in their order: the first that fits counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Netrc {
    entries: Vec<Entry>,
}

#[derive(Debug, PartialEq, Eq)]
struct Entry {
    /// `None` is `default`: it fits every machine.
    machine: Option<String>,
    credentials: Credentials,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum NetrcError {
    #[error("'{0}' is followed by nothing")]
    NoValue(String),
    #[error("'{0}' stands before any 'machine' or 'default'")]
    NoMachine(String),
    #[error("'{0}' is none of machine, default, login, password, account, macdef")]
    Unknown(String),
    #[error("a quoted word has no end")]
    Quote,
}

impl Netrc {
    pub fn parse(text: &str) -> Result<Self, NetrcError> {
        let mut words = Words(text.chars().peekable());
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(keyword) = words.next()? {
            let mut value = || {
                let value = words.next()?;
                value.ok_or_else(|| NetrcError::NoValue(keyword.clone()))
            };
            let machine = match keyword.as_str() {
                "machine" => Some(Some(value()?)),
                "default" => Some(None),
                _ => None,
            };
            if let Some(machine) = machine {
                entries.push(Entry {
                    machine,
                    credentials: Credentials {
                        login: String::new(),
                        password: String::new(),
                    },
                });
                continue;
            }
            let entry = entries.last_mut();
            let entry = entry.ok_or_else(|| NetrcError::NoMachine(keyword.clone()));
            match keyword.as_str() {
                "login" => entry?.credentials.login = value()?,
                "password" => entry?.credentials.password = value()?,
                // Of FTP; read over.
                "account" => drop(value()?),
                "macdef" => words.skip_macro(),
                _ => return Err(NetrcError::Unknown(keyword)),
            }
        }
        Ok(Self { entries })
    }

    pub fn find(&self, host: &str) -> Option<&Credentials> {
        let fits = |entry: &&Entry| {
            let machine = entry.machine.as_deref();
            machine.is_none_or(|machine| machine.eq_ignore_ascii_case(host))
        };
        self.entries
            .iter()
            .find(fits)
            .map(|entry| &entry.credentials)
    }
}

/// Words between white space, comments left out.
struct Words<'a>(Peekable<Chars<'a>>);

impl Words<'_> {
    fn next(&mut self) -> Result<Option<String>, NetrcError> {
        let Some(first) = self.0.find(|c| !c.is_whitespace()) else {
            return Ok(None);
        };
        match first {
            '#' => {
                self.0.find(|c| *c == '\n');
                self.next()
            }
            '"' => self.quoted().map(Some),
            _ => {
                let mut word = String::from(first);
                while let Some(c) = self.0.next_if(|c| !c.is_whitespace()) {
                    word.push(c);
                }
                Ok(Some(word))
            }
        }
    }

    fn quoted(&mut self) -> Result<String, NetrcError> {
        let mut word = String::new();
        loop {
            match self.0.next().ok_or(NetrcError::Quote)? {
                '"' => return Ok(word),
                '\\' => match self.0.next().ok_or(NetrcError::Quote)? {
                    'n' => word.push('\n'),
                    'r' => word.push('\r'),
                    't' => word.push('\t'),
                    other => word.push(other),
                },
                other => word.push(other),
            }
        }
    }

    /// A macro ends at an empty line.
    fn skip_macro(&mut self) {
        let mut before = None;
        self.0.find(|c| {
            let end = *c == '\n' && before == Some('\n');
            before = Some(*c);
            end
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fits_counts() {
        let text = "# passwords\nmachine a.example login me password secret#1 account x\n\
                    machine B.example\n\tpassword \"a \\\"b\\\" \\\\c\"\nmacdef init\nmachine no login no\n\n\
                    machine a.example login late default login anybody password p\nmachine never password x";
        let netrc = Netrc::parse(text).unwrap();
        let case = |host: &str, login: &str, password: &str| {
            let found = netrc.find(host).unwrap();
            assert_eq!((&*found.login, &*found.password), (login, password));
        };
        case("a.example", "me", "secret#1");
        case("b.example", "", "a \"b\" \\c");
        case("no", "anybody", "p");
        case("never", "anybody", "p");
        assert_eq!(Netrc::parse("").unwrap().find("a"), None);
        assert_eq!(
            format!("{:?}", netrc.find("a.example").unwrap()),
            "me:***",
            "a log shows no password"
        );
    }

    #[test]
    fn damage_is_named() {
        let case = |text: &str, expected: NetrcError| {
            assert_eq!(Netrc::parse(text), Err(expected), "{text}");
        };
        case("machine", NetrcError::NoValue("machine".into()));
        case("login me", NetrcError::NoMachine("login".into()));
        case("machine a user me", NetrcError::Unknown("user".into()));
        case("machine a password \"x", NetrcError::Quote);
    }
}
