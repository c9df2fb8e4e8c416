//! `narswarm agent`.

use crate::config::Role;

use super::args::AgentArgs;
use super::exit::Failure;
use super::seedbox::run_node;

pub async fn run(args: &AgentArgs) -> Result<(), Failure> {
    run_node(&args.config, Role::Agent).await
}
