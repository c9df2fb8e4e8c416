//! Keeps loopback out of HTTP proxies: librqbit asks our own tracker on 127.0.0.1 with whatever the environment says.

use std::os::unix::process::CommandExt;
use std::process::Command;

/// What HTTP clients take as a proxy for plain HTTP.
const PROXIES: [&str; 4] = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
const LOOPBACK: &str = "127.0.0.1";

/// Starts this program again, in its place, with loopback added to NO_PROXY, where that matters.
pub fn exempt_loopback() {
    if PROXIES.iter().all(|name| std::env::var_os(name).is_none()) {
        return;
    }
    let exempt = std::env::var("no_proxy")
        .or_else(|_| std::env::var("NO_PROXY"))
        .unwrap_or_default();
    if exempt
        .split(',')
        .any(|host| matches!(host.trim(), LOOPBACK | "*"))
    {
        return;
    }
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let exempt = if exempt.is_empty() {
        LOOPBACK.to_owned()
    } else {
        format!("{exempt},{LOOPBACK}")
    };
    let mut again = Command::new(program);
    again
        .args(std::env::args_os().skip(1))
        .env("NO_PROXY", &exempt)
        .env("no_proxy", &exempt);
    let error = again.exec();
    tracing::warn!(%error, "peers found later will not reach running downloads: cannot exempt loopback from the proxy");
}
