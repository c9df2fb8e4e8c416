//! The floors of the house: a file uses its own folder and strictly lower floors, and each large dependency has one home.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Top to bottom; those who share a floor do not know each other.
const FLOORS: [&[&str]; 9] = [
    &["cli"],
    &["config"],
    &["publish", "serve"],
    &["follow", "substitute"],
    &["swarm", "upstream"],
    &["catalog"],
    &["store", "payload"],
    &["manifest"],
    &["nix", "torrent", "runtime"],
];
/// Crates (by the start of their names) that only one folder knows.
const HOMES: [(&str, &str); 3] = [("librqbit", "swarm"), ("axum", "serve"), ("clap", "cli")];
/// They are above all floors.
const ROOF: [&str; 2] = ["lib.rs", "main.rs"];

/// A source file with the folder that it belongs to.
struct Source {
    path: PathBuf,
    folder: String,
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut directories, mut sources) = (vec![root.clone()], Vec::new());
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let inside = path.strip_prefix(&root).unwrap();
            let folder = inside.iter().next().unwrap().to_str().unwrap().to_owned();
            if !ROOF.contains(&folder.as_str()) {
                let code = code(&fs::read_to_string(&path).unwrap());
                let path = inside.to_owned();
                sources.push(Source { path, folder, code });
            }
        }
    }
    sources
}

/// Without comments.
fn code(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| match line.trim_start().starts_with("//") {
            true => "",
            false => line,
        });
    lines.collect::<Vec<_>>().join("\n")
}

/// The folders that this code names after `crate::`, in whatever form.
fn used(code: &str) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    for (at, start) in code.match_indices("crate::") {
        let whole_word =
            !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$');
        if !whole_word {
            continue;
        }
        let rest = &code[at + start.len()..];
        match rest.strip_prefix('{') {
            Some(group) => used.extend(first_words(group)),
            None => used.extend(word(rest)),
        }
    }
    used
}

/// The first word of each item of `{a::b, c::{d, e}}`, whose opening brace is gone.
fn first_words(group: &str) -> Vec<String> {
    let (mut words, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, c) in group.char_indices() {
        let ends = match c {
            '{' => {
                depth += 1;
                false
            }
            '}' if depth > 0 => {
                depth -= 1;
                false
            }
            '}' => true,
            ',' => depth == 0,
            _ => false,
        };
        if ends {
            words.extend(word(group[start..at].trim_start()));
            start = at + 1;
        }
        if c == '}' && ends {
            break;
        }
    }
    words
}

fn word(text: &str) -> Option<String> {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    let word = &text[..end.unwrap_or(text.len())];
    (!word.is_empty()).then(|| word.to_owned())
}

fn floor(folder: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&folder))
}

#[test]
fn only_lower_floors_are_used() {
    let sources = sources();
    let mut violations = Vec::new();
    for Source { path, folder, code } in &sources {
        let Some(own) = floor(folder) else {
            violations.push(format!("{}: {folder} has no floor", path.display()));
            continue;
        };
        for used in used(code).iter().filter(|used| *used != folder) {
            match floor(used) {
                Some(other) if other > own => {}
                Some(_) => {
                    violations.push(format!("{}: {folder} must not use {used}", path.display()))
                }
                None => violations.push(format!("{}: crate::{used} has no floor", path.display())),
            }
        }
    }
    assert!(violations.is_empty(), "\n{}", violations.join("\n"));
    // The reader of `use` lines reads something.
    let serve: BTreeSet<String> = sources
        .iter()
        .filter(|source| source.folder == "serve")
        .flat_map(|source| used(&source.code))
        .collect();
    assert!(
        ["swarm", "catalog", "substitute"]
            .iter()
            .all(|name| serve.contains(*name)),
        "{serve:?}"
    );
}

#[test]
fn every_floor_is_inhabited() {
    let folders: BTreeSet<String> = sources().into_iter().map(|source| source.folder).collect();
    let built: BTreeSet<String> = FLOORS
        .concat()
        .iter()
        .map(|name| name.to_string())
        .collect();
    assert_eq!(folders, built);
}

#[test]
fn large_dependencies_have_one_home() {
    for (dependency, home) in HOMES {
        let names = |source: &Source| {
            source.code.match_indices(dependency).any(|(at, _)| {
                let starts =
                    !source.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
                let rest = &source.code[at..];
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                let attribute = rest[end..].starts_with("(") && source.code[..at].ends_with("#[");
                starts && (rest[end..].starts_with("::") || attribute)
            })
        };
        let sources = sources();
        let (at_home, abroad): (Vec<_>, Vec<_>) = sources
            .iter()
            .filter(|source| names(source))
            .partition(|source| source.folder == home);
        assert!(!at_home.is_empty(), "{home} does not use {dependency}");
        let abroad: Vec<_> = abroad
            .iter()
            .map(|source| source.path.display().to_string())
            .collect();
        assert!(
            abroad.is_empty(),
            "{dependency} belongs to {home}: {abroad:?}"
        );
    }
}

#[test]
fn use_lines_are_read() {
    let case = |code: &str, expected: &[&str]| {
        let expected: BTreeSet<String> = expected.iter().map(|name| name.to_string()).collect();
        assert_eq!(used(code), expected, "{code}");
    };
    case("use crate::nix::{HashPart, NarHash};", &["nix"]);
    case(
        "use crate::{nix::{A, B}, torrent::C,\n  runtime};",
        &["nix", "torrent", "runtime"],
    );
    case("    crate::payload::ENCODER_ID", &["payload"]);
    case("pub(crate) fn f() {}", &[]);
    case("$crate::swarm::x", &[]);
}
