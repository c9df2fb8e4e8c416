//! nix.conf, as Nix reads it.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

/// Nix itself has no limit; nobody nests deeper.
const MAX_INCLUDES: u32 = 10;

/// What Nix asks when nothing else is said (src/libstore/globals.hh in NixOS/nix).
const DEFAULT_SUBSTITUTERS: &str = "https://cache.nixos.org/";

/// Lists by key: a later line replaces an earlier one, `extra-` adds to it.
pub struct NixConf(HashMap<String, Vec<String>>);

impl Default for NixConf {
    fn default() -> Self {
        let mut conf = Self(HashMap::new());
        conf.set("substituters", DEFAULT_SUBSTITUTERS);
        conf
    }
}

impl NixConf {
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut conf = Self::default();
        conf.add(path, MAX_INCLUDES)?;
        Ok(conf)
    }

    fn add(&mut self, path: &Path, includes: u32) -> io::Result<()> {
        for line in fs::read_to_string(path)?.lines() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if let Some((key, value)) = line.split_once('=') {
                self.set(key.trim(), value);
            } else if let Some((command, file)) = line.split_once(char::is_whitespace)
                && includes > 0
            {
                let file = path.parent().unwrap_or(Path::new("/")).join(file.trim());
                match command {
                    "include" => self.add(&file, includes - 1)?,
                    // It may be absent.
                    "!include" => self.add(&file, includes - 1).unwrap_or_default(),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, key: &str, value: &str) {
        let (key, adds) = match key.strip_prefix("extra-") {
            Some(key) => (key, true),
            None => (key, false),
        };
        let values = self.0.entry(key.to_owned()).or_default();
        if !adds {
            values.clear();
        }
        values.extend(value.split_whitespace().map(str::to_owned));
    }

    pub fn list(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_count_as_for_nix() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let case = |text: &str, expected: &[&str]| {
            let conf = NixConf::read(&write("nix.conf", text)).unwrap();
            assert_eq!(conf.list("substituters"), expected, "{text}");
        };
        case("", &[DEFAULT_SUBSTITUTERS]);
        case("extra-substituters = a\n", &[DEFAULT_SUBSTITUTERS, "a"]);
        case("substituters = a b # c\n", &["a", "b"]);
        case("substituters = a\nextra-substituters = b\n", &["a", "b"]);
        case("extra-substituters = a\nsubstituters = b\n", &["b"]);
        // As `narswarm setup` leaves it.
        write("narswarm.conf", "substituters = shim\n");
        case("substituters = a\n!include narswarm.conf\n", &["shim"]);
        case("!include missing.conf\nsubstituters = a\n", &["a"]);
        // A circle ends.
        case("substituters = a\n!include nix.conf\n", &["a"]);
        assert!(NixConf::read(&write("bad.conf", "include missing.conf\n")).is_err());
    }
}
