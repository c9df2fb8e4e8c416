//! Under systemd: the shim's socket that it holds for us, readiness, and the watchdog. Elsewhere all of it is nothing.

use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;

/// The shim's socket, bound by a socket unit: nobody else can have the port while the agent is down.
pub fn shim_socket() -> Option<TcpListener> {
    ListenFd::from_env()
        .take_tcp_listener(0)
        .inspect_err(|error| tracing::warn!(%error, "LISTEN_FDS"))
        .ok()
        .flatten()
}

pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// Followed by `ready` when the configuration was read again.
pub fn reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    let state: Vec<_> = [NotifyState::Reloading].into_iter().chain(now).collect();
    tell(&state);
}

pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Tells systemd twice per interval that tasks still run, for as long as it is polled.
pub async fn feed_watchdog() {
    let Some(interval) =
        sd_notify::watchdog_enabled().filter(|interval| *interval > Duration::ZERO)
    else {
        return std::future::pending().await;
    };
    loop {
        tell(&[NotifyState::Watchdog]);
        tokio::time::sleep(interval / 2).await;
    }
}

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "sd_notify");
    }
}
