//! `narswarm seedbox`; and how a node of either role runs until it is told to stop.

use std::io::Write;

use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Config, Role};
use crate::serve::Node;

use super::args::NodeArgs;
use super::exit::Failure;
use super::systemd;

pub async fn run(args: &NodeArgs) -> Result<(), Failure> {
    run_node(args, Role::Seedbox).await
}

pub async fn run_node(args: &NodeArgs, role: Role) -> Result<(), Failure> {
    let mut config = Config::read(&args.config, role).map_err(Failure::usage)?;
    for warning in &config.warnings {
        tracing::warn!("{}: {warning}", args.config.display());
    }
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    config.options.shim_socket = systemd::shim_socket();
    let node = Node::start(config.options).await.map_err(Failure::failed)?;
    // Whoever started us may have closed stdout; that is no reason to end.
    let _ = writeln!(std::io::stdout(), "{}", node.run_file().line());
    systemd::ready();
    tokio::select! {
        () = systemd::feed_watchdog() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    systemd::stopping();
    node.stop().await;
    Ok(())
}
