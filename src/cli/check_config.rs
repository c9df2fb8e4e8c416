//! `narswarm check-config`.

use crate::config::Config;

use super::args::CheckConfigArgs;
use super::exit::Failure;

pub fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let (role, config) = Config::read_either(&args.file).map_err(Failure::usage)?;
    let options = &config.options;
    println!(
        "{}: a good configuration of {} {}: {} channels, {} upstreams, share = {}, state in {}",
        args.file.display(),
        if role == crate::config::Role::Agent {
            "an"
        } else {
            "a"
        },
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
