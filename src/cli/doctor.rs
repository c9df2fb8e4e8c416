//! `narswarm doctor`: what works from here, one line each, and what to do about the rest.

mod finding;
mod leftovers;
mod local;
mod network;
mod nix_conf;

use std::io::ErrorKind;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::config::{Config, ConfigError, Role};
use crate::serve::NodeOptions;

use super::args::DoctorArgs;
use super::config_file;
use super::exit::{FAILED, Failure};
use super::running_node::RunningNode;
use super::setup;

use finding::{Finding, State};

const CONFIGURATION: &str = "configuration";

/// What the checks look at.
pub struct Patient {
    pub options: NodeOptions,
    /// What the running node says, or why it says nothing.
    pub status: Result<Value, String>,
    /// Seconds since 1970.
    pub now: u64,
}

pub async fn run(args: &DoctorArgs) -> Result<(), Failure> {
    let (options, absent) = configuration(&args.config)?;
    let node = RunningNode::with_state(&options.state);
    let options = match node.as_ref().ok().and_then(RunningNode::role) {
        Some(running) if running != options.role => as_it_runs(&args.config, running, options),
        _ => options,
    };
    let status = match node {
        Ok(node) => node.status().await,
        Err(failure) => Err(failure),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let patient = Patient {
        options,
        status: status.map_err(|failure| failure.message),
        now: now.map_or(0, |since| since.as_secs()),
    };
    let mut findings: Vec<Finding> = absent.into_iter().collect();
    findings.push(local::node(&patient));
    findings.extend(local::channels(&patient));
    findings.extend([local::clock(&patient), local::store(&patient).await]);
    findings.extend(nix_conf::nix_conf(&patient));
    findings.push(network::addresses());
    findings.extend(network::upstreams(&patient).await);
    findings.extend(network::discovery(&patient));
    findings.extend(leftovers::leftovers(&patient));
    findings.extend(patient.options.warnings.iter().map(|warning| {
        Finding::warn(
            CONFIGURATION,
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

/// The file, or what `setup` begins with where there is none: DNS, clock and nix.conf can be looked at all the same.
fn configuration(file: &Path) -> Result<(NodeOptions, Option<Finding>), Failure> {
    match Config::read_either(file) {
        Ok(config) => Ok((config.options, None)),
        Err(error) if is_absent(&error) && config_file::is_the_services(file) => {
            let config = Config::parse(setup::CONFIG, file, Role::Agent);
            let remedy = "name one with --config, or let `narswarm setup` make one";
            let absent = Finding::fail(CONFIGURATION, error.to_string(), remedy);
            Ok((config.map_err(Failure::usage)?.options, Some(absent)))
        }
        Err(error) => Err(config_file::unusable(error)),
    }
}

fn is_absent(error: &ConfigError) -> bool {
    matches!(error, ConfigError::Read { source, .. } if source.kind() == ErrorKind::NotFound)
}

/// A file may be good for both roles: the node that runs with it knows which is meant.
fn as_it_runs(file: &Path, running: Role, options: NodeOptions) -> NodeOptions {
    Config::read(file, running).map_or(options, |config| config.options)
}
