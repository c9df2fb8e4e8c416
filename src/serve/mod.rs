//! The node: agent or seedbox put together and run, and the HTTP shim that Nix talks to (one file per route).

mod cache_info;
mod metrics;
mod nar;
mod narinfo;
mod node;
mod passthrough;
mod router;
mod run_file;
mod status;

pub use node::{Node, NodeError, NodeOptions, Role};
pub use run_file::RunFile;
