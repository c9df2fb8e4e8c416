//! `narswarm seedbox`.

use crate::config::Role;

use super::args::SeedboxArgs;
use super::exit::Failure;
use super::node;

pub async fn run(args: &SeedboxArgs) -> Result<(), Failure> {
    node::run(&args.config, Role::Seedbox).await
}
