//! `narswarm agent`.

use crate::config::Role;

use super::args::AgentArgs;
use super::exit::Failure;
use super::node;

pub async fn run(args: &AgentArgs) -> Result<(), Failure> {
    node::run(&args.config, Role::Agent).await
}
