//! nix.conf: whom does Nix ask, and whom does it believe?

use std::path::Path;

use crate::cli::nix_conf::NixConf;
use crate::config::Role;

use super::Patient;
use super::finding::Finding;

const NIX_CONF_DIRECTORY: &str = "/etc/nix";
const WHAT: &str = "nix.conf";

/// What Nix is told to do.
pub fn nix_conf(patient: &Patient) -> Option<Finding> {
    if patient.options.role != Role::Agent {
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
