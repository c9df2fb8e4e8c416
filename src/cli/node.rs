//! How a node of either role runs until it is told to stop.

use std::io::Write;
use std::path::Path;
use std::pin::pin;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, ConfigError, Role};
use crate::serve::{Node, NodeOptions, RunFile};

use super::config_file;
use super::exit::Failure;
use super::systemd;

pub async fn run(file: &Path, role: Role) -> Result<(), Failure> {
    let mut options = read(file, role).map_err(config_file::unusable)?;
    let listen_to = |kind| signal(kind).map_err(Failure::failed);
    let mut terminate = listen_to(SignalKind::terminate())?;
    let mut interrupt = listen_to(SignalKind::interrupt())?;
    let mut hangup = listen_to(SignalKind::hangup())?;
    options.shim_socket = systemd::shim_socket();
    let node = Node::start(options).await.map_err(Failure::failed)?;
    // Whoever started us may have closed stdout; that is no reason to end.
    let _ = writeln!(std::io::stdout(), "{}", node.run_file().line());
    let RunFile { shim, peer, .. } = node.run_file();
    tracing::info!(%shim, %peer, "serving");
    systemd::ready();
    let mut watchdog = pin!(systemd::feed_watchdog());
    loop {
        tokio::select! {
            () = &mut watchdog => {}
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => {
                systemd::reloading();
                node.reload(read(file, role).map_err(|error| one_line(&error))).await;
                systemd::ready();
            }
        }
    }
    tracing::info!("stopping");
    systemd::stopping();
    node.stop().await;
    Ok(())
}

/// The configuration, with its warnings in the log.
fn read(file: &Path, role: Role) -> Result<NodeOptions, ConfigError> {
    let options = Config::read(file, role)?.options;
    for warning in &options.warnings {
        tracing::warn!("{}: {warning}", file.display());
    }
    Ok(options)
}

/// TOML's errors point into the file, which takes lines that begin with a bar; a log has one line.
fn one_line(error: &ConfigError) -> String {
    let text = error.to_string();
    let bare = |line: &&str| {
        let line = line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ');
        !line.starts_with('|')
    };
    let lines: Vec<&str> = text.lines().filter(bare).collect();
    lines.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_toml_in_one_line() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "[swarm]\nshare = \"off\"\n[swarm\n").unwrap();
        let error = Config::read(file.path(), Role::Agent).err().unwrap();
        let line = one_line(&error);
        assert!(!line.contains('\n') && !line.contains('|'), "{line}");
        assert!(
            line.contains("line 3") && line.contains("unclosed table"),
            "{line}"
        );
    }
}
