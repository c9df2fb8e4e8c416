//! `narswarm doctor`: what works from here, one line each, and what to do about the rest.

mod finding;
mod local;
mod network;
mod nix_conf;

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::{Config, Role};
use crate::serve::NodeOptions;

use super::args::DoctorArgs;
use super::exit::{FAILED, Failure};
use super::running_node::RunningNode;

use finding::{Finding, State};

/// What the checks look at.
pub struct Patient {
    pub role: Role,
    pub options: NodeOptions,
    /// What the running node says, or why it says nothing.
    pub status: Result<Value, String>,
    /// Seconds since 1970.
    pub now: u64,
}

pub async fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let (role, config) = Config::read_either(&args.config).map_err(Failure::usage)?;
    let status = match RunningNode::with_state(&config.options.state) {
        Ok(node) => node.status().await,
        Err(failure) => Err(failure),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let patient = Patient {
        role,
        options: config.options,
        status: status.map_err(|failure| failure.message),
        now: now.map_or(0, |since| since.as_secs()),
    };
    let mut findings = vec![local::node(&patient)];
    findings.extend(local::channels(&patient));
    findings.extend([local::clock(&patient), local::store(&patient).await]);
    findings.extend(nix_conf::nix_conf(&patient));
    findings.push(network::addresses());
    findings.extend(network::upstreams(&patient).await);
    findings.extend(network::discovery(&patient));
    findings.extend(config.warnings.into_iter().map(|warning| {
        Finding::warn(
            "configuration",
            warning,
            "see README, or `narswarm check-config`",
        )
    }));
    let fails = findings
        .iter()
        .filter(|finding| finding.state == State::Fail)
        .count();
    if args.json {
        let list: Vec<Value> = findings.iter().map(Finding::json).collect();
        println!("{}", json!({ "ok": fails == 0, "findings": list }));
    } else {
        findings.iter().for_each(|finding| print!("{finding}"));
    }
    match fails {
        0 => Ok(()),
        1 => Err(Failure::new(FAILED, "one thing does not work")),
        _ => Err(Failure::new(FAILED, format!("{fails} things do not work"))),
    }
}
