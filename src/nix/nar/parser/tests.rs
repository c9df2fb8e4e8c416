//! What the parser takes and refuses; byte equality with Nix is tested in `tests/nix_nar.rs`.

use proptest::prelude::{any, proptest};

use super::*;

/// Writes down what it is given.
#[derive(Default)]
struct Listing(Vec<String>);

impl Sink for Listing {
    fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        self.0.push(format!("d {}", path.escape_ascii()));
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let (path, target) = (path.escape_ascii(), target.escape_ascii());
        self.0.push(format!("l {path} {target}"));
        Ok(())
    }

    fn regular(&mut self, path: &[u8], executable: bool, size: u64) -> io::Result<()> {
        let mode = if executable { 'x' } else { 'f' };
        self.0
            .push(format!("{mode} {} {size}", path.escape_ascii()));
        Ok(())
    }

    fn contents(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.push(format!("  {}", bytes.escape_ascii()));
        Ok(())
    }
}

/// A NAR in shorthand: words between spaces, `''` the empty word, `\0` a zero byte.
fn nar(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in text.split_ascii_whitespace() {
        let word = if word == "''" {
            String::new()
        } else {
            word.replace("\\0", "\0")
        };
        bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
        bytes.extend_from_slice(word.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

fn list(bytes: &[u8], limits: &Limits) -> Result<Vec<String>, NarError> {
    let mut listing = Listing::default();
    let size = read(bytes, &mut listing, limits)?;
    assert_eq!(size, bytes.len() as u64);
    Ok(listing.0)
}

const FILE: &str = "( type regular contents abc )";

fn directory(entries: &[(&str, &str)]) -> String {
    let entries: Vec<String> = entries
        .iter()
        .map(|(name, node)| format!("entry ( name {name} node {node} )"))
        .collect();
    format!("( type directory {} )", entries.join(" "))
}

fn parse(node: &str) -> Result<Vec<String>, NarError> {
    list(&nar(&format!("nix-archive-1 {node}")), &Limits::default())
}

#[test]
fn accepted() {
    #[track_caller]
    fn case(node: &str, listing: &[&str]) {
        assert_eq!(parse(node).unwrap(), listing);
    }
    case(FILE, &["f  3", "  abc"]);
    case("( type regular contents '' )", &["f  0"]);
    case(
        "( type regular executable '' contents abc )",
        &["x  3", "  abc"],
    );
    case("( type symlink target ../x )", &["l  ../x"]);
    case("( type directory )", &["d "]);
    let inner = directory(&[("x", "( type directory )"), ("y", FILE)]);
    let tree = directory(&[
        ("A", FILE),
        ("a", &inner),
        ("a.", FILE),
        ("b", "( type symlink target a )"),
    ]);
    case(
        &tree,
        &[
            "d ", "f A 3", "  abc", "d a", "d a/x", "f a/y 3", "  abc", "f a. 3", "  abc", "l b a",
        ],
    );
}

#[test]
fn names_refused() {
    #[track_caller]
    fn case(names: &[&str]) {
        let entries: Vec<_> = names.iter().map(|name| (*name, FILE)).collect();
        let error = parse(&directory(&entries)).unwrap_err();
        assert!(matches!(error, NarError::Name { .. }), "{error}");
    }
    case(&["''"]);
    case(&["."]);
    case(&[".."]);
    case(&["a/b"]);
    case(&["/"]);
    case(&["a\\0b"]);
    case(&["a", "a"]);
    case(&["b", "a"]);
    case(&["aa", "a"]);
    case(&["a", "b", "B"]);
    let long = "x".repeat(256);
    parse(&directory(&[(&long, FILE)])).unwrap_err();
    parse(&directory(&[(&long[1..], FILE)])).unwrap();
}

#[test]
fn grammar_refused() {
    #[track_caller]
    fn case(node: &str) {
        let error = parse(node).unwrap_err();
        let expected = matches!(error, NarError::Malformed { .. } | NarError::Cut { .. });
        assert!(expected, "{error}");
    }
    case("");
    case("( type regular )");
    case("( type regular executable contents abc )");
    case("( type regular executable 1 contents abc )");
    case("( type regular contents abc executable '' )");
    case("( type socket )");
    case("( type symlink )");
    case("( type symlink target '' )");
    case("( type symlink target a\\0b )");
    case("( type directory entry ( name a ) )");
    case(&format!("( type directory entry ( node {FILE} name a ) )"));
    case("( type directory");
    case("( directory )");
    case(&format!("{FILE} )"));
    case(&format!("{FILE} ''"));
    case("( type aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa )");
    list(&nar("nix-archive-2 ( type directory )"), &Limits::default()).unwrap_err();
}

#[test]
fn bytes_refused() {
    let good = nar(&format!("nix-archive-1 {FILE}"));
    let at = good.windows(3).position(|window| window == b"abc").unwrap();
    let mut padded = good.clone();
    padded[at + 3] = 1;
    list(&padded, &Limits::default()).unwrap_err();
    let mut trailing = good.clone();
    trailing.push(0);
    list(&trailing, &Limits::default()).unwrap_err();
    for cut in 0..good.len() {
        let error = list(&good[..cut], &Limits::default()).unwrap_err();
        assert!(matches!(error, NarError::Cut { .. }), "{cut}: {error}");
    }
    let mut huge = good;
    huge[at - 8..at].copy_from_slice(&u64::MAX.to_le_bytes());
    let error = list(&huge, &Limits::default()).unwrap_err();
    assert!(matches!(error, NarError::TooMuch { .. }), "{error}");
}

#[test]
fn limits_hold() {
    let deep = |depth| {
        (1..depth).fold("( type directory )".to_owned(), |inner, _| {
            directory(&[("d", &inner)])
        })
    };
    let bytes = |node: &str| nar(&format!("nix-archive-1 {node}"));
    let limits = Limits {
        depth: 5,
        entries: 6,
        size: 2000,
    };
    list(&bytes(&deep(5)), &limits).unwrap();
    list(&bytes(&deep(6)), &limits).unwrap_err();
    let names = ["a", "b", "c", "d", "e", "f"].map(|name| (name, "( type directory )"));
    list(&bytes(&directory(&names[..5])), &limits).unwrap();
    list(&bytes(&directory(&names)), &limits).unwrap_err();
    let file = |len: usize| bytes(&format!("( type regular contents {} )", "x".repeat(len)));
    list(&file(1000), &limits).unwrap();
    list(&file(1990), &limits).unwrap_err();
    // Deeper than any call stack would bear.
    parse(&deep(2048)).unwrap();
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        bytes: Vec<u8>,
        at in any::<proptest::sample::Index>(),
        byte: u8,
    ) {
        let _ = list(&bytes, &Limits::default());
        let node = directory(&[("a", FILE), ("b", "( type symlink target a )")]);
        let mut damaged = nar(&format!("nix-archive-1 {node}"));
        let at = at.index(damaged.len());
        damaged[at] ^= byte;
        let mut listing = Listing::default();
        if read(damaged.as_slice(), &mut listing, &Limits::default()).is_ok() {
            // What is accepted is canonical: a changed byte is a changed tree.
            assert!(byte == 0 || listing.0 != parse(&node).unwrap());
        }
    }
}
