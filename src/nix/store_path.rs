//! One path of the store: a hash part and a name.
//!
//! Sample: `/nix/store/05xfwnl62nipbw1ankbcv2crjhb9a918-python3-3.13.14`.
//! Source: `src/libstore/path.cc` in NixOS/nix (`checkName`).

use std::{cmp::Ordering, fmt};

use super::{HashPart, ParseError, StoreDir};

const WHAT: &str = "store path";

/// Nix's `StorePath::MaxPathLen`: hash, dash, name and `.lock` fit into NAME_MAX.
const MAX_NAME_BYTES: usize = 211;

/// Without its store dir. Ordered by base name, as in the sets of references that Nix signs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StorePath {
    hash_part: HashPart,
    name: Box<str>,
}

impl StorePath {
    /// Parses `HASHPART-NAME`.
    pub fn parse_base_name(text: &str) -> Result<Self, ParseError> {
        let refuse = |reason| Err(ParseError::invalid(WHAT, text, reason));
        let Some((digits, rest)) = text.split_at_checked(HashPart::DIGITS) else {
            return refuse("it does not start with a hash part");
        };
        let Ok(hash_part) = digits.parse() else {
            return refuse("it does not start with a hash part");
        };
        let Some(name) = rest.strip_prefix('-') else {
            return refuse("no dash follows its hash part");
        };
        Self::new(hash_part, name)
    }

    /// Parses the full path; what lies below a store path is refused.
    pub fn parse(store_dir: &StoreDir, text: &str) -> Result<Self, ParseError> {
        text.strip_prefix(store_dir.as_str())
            .and_then(|rest| rest.strip_prefix('/'))
            .ok_or_else(|| ParseError::invalid(WHAT, text, "it is not in the store dir"))
            .and_then(Self::parse_base_name)
    }

    /// Puts a path together, under the same rules as parsing one.
    pub fn new(hash_part: HashPart, name: &str) -> Result<Self, ParseError> {
        match name_fault(name) {
            Some(reason) => Err(ParseError::invalid(WHAT, name, reason)),
            None => Ok(Self {
                hash_part,
                name: name.into(),
            }),
        }
    }

    pub fn hash_part(&self) -> HashPart {
        self.hash_part
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn base_name(&self) -> String {
        format!("{}-{}", self.hash_part, self.name)
    }

    pub fn full(&self, store_dir: &StoreDir) -> String {
        format!("{store_dir}/{}-{}", self.hash_part, self.name)
    }
}

fn name_fault(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        return Some("its name is empty");
    }
    if name.len() > MAX_NAME_BYTES {
        return Some("its name is longer than 211 bytes");
    }
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"+-._?=".contains(&b);
    if !name.bytes().all(allowed) {
        return Some("its name contains a character that Nix does not allow");
    }
    let first_word = name.split('-').next().unwrap_or(name);
    matches!(first_word, "." | "..").then_some("its name starts with the word `.` or `..`")
}

impl Ord for StorePath {
    fn cmp(&self, other: &Self) -> Ordering {
        // The text of a hash part is a number with its least significant byte first.
        let number = |path: &'_ Self| {
            let mut bytes = *path.hash_part.as_bytes();
            bytes.reverse();
            bytes
        };
        number(self)
            .cmp(&number(other))
            .then_with(|| self.name.cmp(&other.name))
    }
}

impl PartialOrd for StorePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The base name.
impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash_part, self.name)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    const DIGITS: &str = "05xfwnl62nipbw1ankbcv2crjhb9a918";

    #[test]
    fn names_accepted() {
        #[track_caller]
        fn case(name: &str) {
            let text = format!("{DIGITS}-{name}");
            let path = StorePath::parse_base_name(&text).unwrap();
            assert_eq!(path.name(), name);
            assert_eq!(path.base_name(), text);
            assert_eq!(path.to_string(), text);
        }
        case("python3-3.13.14");
        case("a");
        case("-");
        case(".gitignore");
        case("...");
        case("a+b-c._?=9Z");
        case(&"x".repeat(MAX_NAME_BYTES));
    }

    #[test]
    fn names_refused() {
        #[track_caller]
        fn case(name: &str) {
            StorePath::parse_base_name(&format!("{DIGITS}-{name}")).unwrap_err();
        }
        case("");
        case(".");
        case("..");
        case(".-a");
        case("..-a");
        case("a/b");
        case("a b");
        case("a\n");
        case("é");
        case(&"x".repeat(MAX_NAME_BYTES + 1));
    }

    #[test]
    fn full_paths() {
        let dir = StoreDir::default();
        let full = format!("/nix/store/{DIGITS}-a");
        assert_eq!(StorePath::parse(&dir, &full).unwrap().full(&dir), full);
        #[track_caller]
        fn refused(text: &str) {
            StorePath::parse(&StoreDir::default(), text).unwrap_err();
        }
        refused(&format!("{DIGITS}-a"));
        refused(&format!("/nix/store/{DIGITS}-a/bin"));
        refused(&format!("/nix/store//{DIGITS}-a"));
        refused(&format!("/nix/store{DIGITS}-a"));
        refused(&format!("/gnu/store/{DIGITS}-a"));
        refused(&format!("/nix/store/{DIGITS}"));
        refused(&format!("/nix/store/{DIGITS}a"));
        refused("/nix/store");
    }

    proptest! {
        #[test]
        fn order_is_that_of_base_names(a: [u8; 20], b: [u8; 20], same: bool, x in "[a-z+.-]{1,3}-", y in "[a-z+.-]{1,3}-") {
            let b = if same { a } else { b };
            let (Ok(a), Ok(b)) = (
                StorePath::new(HashPart::from_bytes(a), &x),
                StorePath::new(HashPart::from_bytes(b), &y),
            ) else {
                return Ok(());
            };
            assert_eq!(a.cmp(&b), a.base_name().cmp(&b.base_name()));
        }

        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = StorePath::parse_base_name(&text);
            let _ = StorePath::parse_base_name(&format!("{DIGITS}-{text}"));
        }
    }
}
