//! eval.nix, run once for all tests, without a store: nothing is written to /nix.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::OnceLock,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::lab::Need;

/// A tree of nixpkgs; `lib` and `nixos` are enough.
const NIXPKGS: &str = "NIXPKGS";

pub struct Evaluation {
    nixpkgs: PathBuf,
    cases: Value,
}

/// nix-instantiate with a configuration and a home of its own, which go away with it.
pub struct NixInstantiate {
    pub command: Command,
    home: TempDir,
}

pub fn nix_instantiate() -> NixInstantiate {
    let home = tempfile::tempdir().unwrap();
    let mut command = Command::new("nix-instantiate");
    command
        .env_remove("NIX_PATH")
        .env("NIX_CONF_DIR", home.path())
        .env("NIX_REMOTE", "dummy://")
        .env("NIX_STATE_DIR", home.path())
        .env("XDG_CACHE_HOME", home.path())
        .env("HOME", home.path());
    NixInstantiate { command, home }
}

impl Evaluation {
    /// `None`, said plainly, without Nix or a tree of nixpkgs.
    pub fn get(test: &str) -> Option<&'static Self> {
        static EVALUATION: OnceLock<Evaluation> = OnceLock::new();
        let Some(nixpkgs) = std::env::var_os(NIXPKGS) else {
            Need::optional(test, &format!("{NIXPKGS} names no tree of nixpkgs"));
            return None;
        };
        if !Need::all(test, &[Need::Program("nix-instantiate")]) {
            return None;
        }
        Some(EVALUATION.get_or_init(|| {
            let nixpkgs = fs::canonicalize(nixpkgs).unwrap();
            let cases = attribute(&nixpkgs, "cases");
            Self { nixpkgs, cases }
        }))
    }

    #[track_caller]
    pub fn case(&self, name: &str) -> &Value {
        let case = &self.cases[name];
        assert!(case.is_object(), "cases.nix has no {name}");
        case
    }

    pub fn nix_conf(&self, name: &str) -> BTreeSet<String> {
        strings(&self.case(name)["nixConf"]).into_iter().collect()
    }

    pub fn attribute(&self, name: &str) -> Value {
        attribute(&self.nixpkgs, name)
    }

    /// The error of something that must not evaluate.
    pub fn fails(&self, name: &str) -> String {
        let output = evaluate(&self.nixpkgs, name);
        assert!(!output.status.success(), "{name} evaluates");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

pub fn strings(list: &Value) -> Vec<String> {
    let list = list.as_array().unwrap().iter();
    list.map(|value| value.as_str().unwrap().to_owned())
        .collect()
}

fn attribute(nixpkgs: &Path, name: &str) -> Value {
    let output = evaluate(nixpkgs, name);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name}: {error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn evaluate(nixpkgs: &Path, name: &str) -> Output {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let NixInstantiate { mut command, home } = nix_instantiate();
    let words = home.path().join("words.json");
    fs::write(&words, serde_json::to_vec(words_of(nixpkgs)).unwrap()).unwrap();
    command
        .args(["--eval", "--strict", "--json"])
        .arg(project.join("tests/module/eval.nix"))
        .args(["--attr", name, "--arg", "nixpkgs"])
        .arg(nixpkgs)
        .args(["--arg", "source"])
        .arg(project.join("nixos-module"))
        .args(["--argstr", "words"])
        .arg(&words)
        .output()
        .unwrap()
}

/// Every word of the module tree: whatever package a module asks for, its name is among them.
fn words_of(nixpkgs: &Path) -> &'static BTreeSet<String> {
    static WORDS: OnceLock<BTreeSet<String>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = BTreeSet::new();
        collect_words(&nixpkgs.join("nixos"), &mut words);
        words
    })
}

fn collect_words(directory: &Path, words: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let entry = entry.unwrap();
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            collect_words(&path, words);
        } else if path.extension().is_some_and(|extension| extension == "nix") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let in_word = |c: char| c.is_ascii_alphanumeric() || "_-'".contains(c);
            let found = text.split(|c| !in_word(c));
            let is_name =
                |word: &&str| word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
            words.extend(found.filter(is_name).map(str::to_owned));
        }
    }
}
