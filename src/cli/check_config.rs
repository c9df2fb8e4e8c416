//! `narswarm check-config`.

use crate::config::{Config, Role};

use super::args::CheckConfigArgs;
use super::exit::Failure;

pub fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let role = match args.role.as_deref() {
        Some("agent") => Some(Role::Agent),
        Some(_) => Some(Role::Seedbox),
        None => None,
    };
    let read = match role {
        Some(role) => Config::read(&args.file, role).map(|config| (role, config)),
        None => Config::read_either(&args.file),
    };
    let (role, config) = read.map_err(Failure::usage)?;
    let options = &config.options;
    println!(
        "{}: a good configuration of {} {}: {} channels, {} upstreams, share = {}, state in {}",
        args.file.display(),
        if role == Role::Agent { "an" } else { "a" },
        role.as_str(),
        options.channels.len(),
        options.upstreams.len(),
        options.swarm.share.as_str(),
        options.state.display(),
    );
    for warning in &config.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}
