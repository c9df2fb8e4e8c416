//! nix.conf, as Nix reads it: whom does Nix ask, and whom does it believe?

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;

use crate::config::Role;

use super::Patient;
use super::finding::Finding;

const NIX_CONF_DIRECTORY: &str = "/etc/nix";
const WHAT: &str = "nix.conf";
/// Nix itself has no limit; nobody nests deeper.
const MAX_INCLUDES: u32 = 10;

/// Lists by key: a later line replaces an earlier one, `extra-` adds to it.
#[derive(Default)]
struct NixConf(HashMap<String, Vec<String>>);

impl NixConf {
    fn read(path: &Path) -> io::Result<Self> {
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

    fn list(&self, key: &str) -> &[String] {
        self.0.get(key).map(Vec::as_slice).unwrap_or_default()
    }
}

/// What Nix is told to do.
pub fn nix_conf(patient: &Patient) -> Option<Finding> {
    if patient.role != Role::Agent {
        return None;
    }
    // As Nix looks for it.
    let directory = std::env::var_os("NIX_CONF_DIR").unwrap_or_else(|| NIX_CONF_DIRECTORY.into());
    let path = Path::new(&directory).join("nix.conf");
    let Ok(conf) = NixConf::read(&path) else {
        let found = format!("{} cannot be read", path.display());
        return Some(Finding::unknown(WHAT, found));
    };
    let shim = format!("http://{}", patient.options.shim);
    let substituters = conf.list("substituters");
    let others = substituters
        .iter()
        .filter(|url| url.trim_end_matches('/') != shim)
        .count();
    let keys = conf.list("trusted-public-keys");
    let channel_key = patient
        .options
        .channels
        .iter()
        .find(|channel| keys.contains(&channel.key.to_string()));
    if let Some(channel) = channel_key {
        let found = format!(
            "the key of channel {} is in trusted-public-keys",
            channel.name
        );
        let remedy = "take it out: a channel key must not sign packages";
        return Some(Finding::fail(WHAT, found, remedy));
    }
    Some(match (others == substituters.len(), others) {
        (true, _) => Finding::fail(
            WHAT,
            format!("{shim} is not among the substituters"),
            format!(
                "substituters = {shim}   (`narswarm setup`, or services.narswarm.agent.enable on NixOS)"
            ),
        ),
        (false, 0) => Finding::ok(WHAT, format!("{shim} is the only substituter")),
        (false, _) => Finding::warn(
            WHAT,
            format!("{others} other substituters are asked as well"),
            "make the agent the only one and list them as [[upstream]]: each costs 15 to 55 s per command when DNS is dead",
        ),
    })
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
        case("", &[]);
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
