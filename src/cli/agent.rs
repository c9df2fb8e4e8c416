//! `narswarm agent`.

use crate::config::Role;

use super::args::NodeArgs;
use super::exit::Failure;
use super::seedbox::run_node;

pub async fn run(args: &NodeArgs) -> Result<(), Failure> {
    run_node(args, Role::Agent).await
}
