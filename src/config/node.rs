//! agent.toml or seedbox.toml as the options that a node starts with.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use thiserror::Error;

use crate::nix::{PublicKey, TrustedKeys};
use crate::serve::NodeOptions;
use crate::store::StoreUri;
use crate::upstream::Netrc;

use super::sections::{AgentFile, Cache, SeedboxFile};
use super::upstreams::netrc;

pub use crate::serve::Role;

/// Where a role keeps what it knows, when neither the file nor systemd says.
const DEFAULT_STATE: &str = "/var/lib/narswarm";
/// A configuration is a page; anything larger is not one.
const MAX_FILE: u64 = 1 << 20;

#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("cannot read {path}: {source}")]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is larger than a configuration can be")]
    TooLarge { path: PathBuf },
    #[error("{path}: {source}")]
    Toml {
        path: PathBuf,
        source: toml::de::Error,
    },
    #[error("{path}: {key}: {reason}")]
    Value {
        path: PathBuf,
        key: String,
        reason: String,
    },
}

/// A checked configuration.
pub struct Config {
    pub options: NodeOptions,
}

impl Config {
    pub fn read(path: &Path, role: Role) -> Result<Self, ConfigError> {
        Self::parse(&read(path)?, path, role)
    }

    /// The text of a file; errors name it by `path`.
    pub fn parse(text: &str, path: &Path, role: Role) -> Result<Self, ConfigError> {
        let toml = |source| ConfigError::Toml {
            path: path.to_owned(),
            source,
        };
        let checker = Checker { path };
        match role {
            Role::Agent => checker.agent(toml::from_str(text).map_err(toml)?),
            Role::Seedbox => checker.seedbox(toml::from_str(text).map_err(toml)?),
        }
    }

    /// Reads a file of either role.
    pub fn read_either(path: &Path) -> Result<Self, ConfigError> {
        // What is no TOML at all is refused below.
        let role = read(path)?.parse().map_or(Role::Agent, |file| role(&file));
        Self::read(path, role)
    }
}

/// A file that holds and has nothing that only an agent has is a seedbox's.
fn role(file: &toml::Table) -> Role {
    let mut of_agents = ["shim", "store", "cache", "trusted_keys", "netrc"].iter();
    let holds = file.contains_key("hold") && !of_agents.any(|key| file.contains_key(*key));
    match holds || file.contains_key("http") {
        true => Role::Seedbox,
        false => Role::Agent,
    }
}

/// The state directory of a configuration file, or the default one.
pub fn state_directory(configured: Option<PathBuf>) -> PathBuf {
    let systemd = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
    configured
        .or(systemd)
        .unwrap_or_else(|| DEFAULT_STATE.into())
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let failed = |source| ConfigError::Read {
        path: path.to_owned(),
        source,
    };
    if fs::metadata(path).map_err(failed)?.len() > MAX_FILE {
        return Err(ConfigError::TooLarge {
            path: path.to_owned(),
        });
    }
    fs::read_to_string(path).map_err(failed)
}

/// Turns sections into options; every error says where.
pub(super) struct Checker<'a> {
    path: &'a Path,
}

impl Checker<'_> {
    fn agent(&self, file: AgentFile) -> Result<Config, ConfigError> {
        let mut warnings = Vec::new();
        let state = state_directory(file.state);
        let store = self.store(&file.store.uri, "store.uri")?;
        let netrc = netrc(file.netrc.as_deref(), &mut warnings);
        let upstreams = self.upstreams(&file.upstream, &netrc, &mut warnings)?;
        let mut keys = Vec::new();
        for key in &file.trusted_keys {
            keys.push(self.parse::<PublicKey>("trusted_keys", key)?);
        }
        keys.extend(
            upstreams
                .iter()
                .flat_map(|upstream| upstream.keys.iter().cloned()),
        );
        if keys.is_empty() {
            warnings.push(
                "no trusted_keys and no upstream keys: no row of any manifest can be served"
                    .to_owned(),
            );
        }
        if !file.shim.listen.ip().is_loopback() {
            warnings.push(format!(
                "shim.listen = {}: others can use this substituter",
                file.shim.listen
            ));
        }
        let (hold, hold_store) = self.hold(file.hold.as_ref(), &mut warnings)?;
        if hold_store.is_some() {
            return Err(self.error(
                "hold.source",
                "an agent has its store in [store] uri; \"store\" is for a seedbox",
            ));
        }
        self.warn_of_swarm(&file.swarm, &mut warnings);
        let options = NodeOptions {
            role: Role::Agent,
            swarm: self.swarm(Role::Agent, &file.swarm, &state, file.cache.size.0, hold)?,
            state,
            shim: file.shim.listen,
            shim_socket: None,
            store,
            channels: self.channels(&file.channel, file.shim.expressions)?,
            upstreams,
            keys: keys.into_iter().collect(),
            warnings,
        };
        Ok(Config { options })
    }

    fn seedbox(&self, file: SeedboxFile) -> Result<Config, ConfigError> {
        let mut warnings = Vec::new();
        let state = state_directory(file.state);
        let (hold, store) = self.hold(Some(&file.hold), &mut warnings)?;
        self.warn_of_swarm(&file.swarm, &mut warnings);
        let upstreams = self.upstreams(&file.upstream, &Netrc::default(), &mut warnings)?;
        if !upstreams.is_empty() {
            warnings.push("upstream: a seedbox asks none in this version".to_owned());
        }
        let options = NodeOptions {
            role: Role::Seedbox,
            swarm: self.swarm(
                Role::Seedbox,
                &file.swarm,
                &state,
                Cache::default().size.0,
                hold,
            )?,
            state,
            shim: file.http.listen,
            shim_socket: None,
            store,
            channels: self.channels(&file.channel, true)?,
            upstreams,
            keys: TrustedKeys::default(),
            warnings,
        };
        Ok(Config { options })
    }

    pub(super) fn store(&self, uri: &str, key: &str) -> Result<Option<StoreUri>, ConfigError> {
        match self.parse::<StoreUri>(key, uri)? {
            store @ StoreUri::Local { .. } => Ok(Some(store)),
            _ => Err(self.error(
                key,
                "must be a store on this machine: local, local?root=DIR or DIR",
            )),
        }
    }

    pub(super) fn parse_all<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        texts: &[String],
    ) -> Result<Vec<T>, ConfigError> {
        texts.iter().map(|text| self.parse(key, text)).collect()
    }

    pub(super) fn parse<T: FromStr<Err: std::fmt::Display>>(
        &self,
        key: &str,
        text: &str,
    ) -> Result<T, ConfigError> {
        text.parse()
            .map_err(|error: T::Err| self.error(key, &format!("'{text}': {error}")))
    }

    pub(super) fn error(&self, key: &str, reason: &str) -> ConfigError {
        ConfigError::Value {
            path: self.path.to_owned(),
            key: key.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        file
    }

    #[test]
    fn a_file_tells_whose_it_is() {
        let case = |text: &str, role| {
            let read = Config::read_either(file(text).path());
            assert!(
                read.is_ok_and(|config| config.options.role == role),
                "{text}"
            );
        };
        case("", Role::Agent);
        case("[shim]\nexpressions = true", Role::Agent);
        case("[hold]\nlocation = \"/x\"", Role::Seedbox);
        case("[hold]\nlocation = \"/x\"\n[http]", Role::Seedbox);
        case("[hold]\nlocation = \"/x\"\n[cache]", Role::Agent);
        let wrong = file("[hold]\nlocation = \"/x\"\nquota = 1");
        let error = Config::read_either(wrong.path()).err().unwrap();
        assert!(error.to_string().contains("quota"), "{error}");
        assert!(Config::read_either(file("[hold").path()).is_err());
    }

    #[test]
    fn what_has_no_effect_is_refused_or_warned_of() {
        let refused = |text: &str, key: &str| {
            let read = Config::read_either(file(text).path());
            let error = read.err().expect(text).to_string();
            assert!(error.contains(key), "{error}");
        };
        refused("[swarm]\nupload_limit = \"0B/s\"", "upload_limit");
        refused("[swarm]\npeer_upload_limit = \"9B/s\"", "peer_upload_limit");
        refused(
            "[[swarm.schedule]]\nfrom = \"01:00\"\nto = \"02:00\"\nupload_limit = \"0B/s\"",
            "schedule",
        );
        refused(
            "[[upstream]]\nurl = \"https://example.org\"\ntimeout = \"0s\"",
            "timeout",
        );
        refused("[hold]\nlocation = \"/\"\namount = \"a lot\"", "amount");
        let warned = |text: &str, of: &str| {
            let config = Config::read_either(file(text).path()).unwrap();
            let warnings = config.options.warnings;
            assert!(
                warnings.iter().any(|warning| warning.contains(of)),
                "{text}"
            );
        };
        let hold = "[hold]\nlocation = \"/nowhere\"\namount = \"20%\"\n";
        warned(hold, "/nowhere");
        warned(hold, "amount");
        warned(&format!("{hold}[shim]"), "amount");
        warned(
            &format!("{hold}[[upstream]]\nurl = \"https://example.org\""),
            "upstream",
        );
    }
}
