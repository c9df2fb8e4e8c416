//! The configuration file that a command names, or the one that the service has.

use std::io;
use std::path::Path;

use crate::config::ConfigError;

use super::exit::Failure;

pub const AGENT: &str = "/etc/narswarm/agent.toml";
pub const SEEDBOX: &str = "/etc/narswarm/seedbox.toml";

/// Why it cannot be used, and what helps.
pub fn unusable(error: ConfigError) -> Failure {
    let remedy = match &error {
        ConfigError::Read { path, source } => match source.kind() {
            io::ErrorKind::NotFound if is_the_services(path) => ": name one with --config",
            io::ErrorKind::PermissionDenied => ": run this as root",
            _ => "",
        },
        _ => "",
    };
    Failure::usage(format!("{error}{remedy}"))
}

/// Whether a command took it because nobody named one.
pub fn is_the_services(path: &Path) -> bool {
    path == Path::new(AGENT) || path == Path::new(SEEDBOX)
}
