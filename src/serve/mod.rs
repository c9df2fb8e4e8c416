//! The node: agent or seedbox put together and run, and the HTTP shim that Nix talks to (one file per route).

mod cache_info;
mod configured;
mod host;
mod installed;
mod listener;
mod metrics;
mod nar;
mod narinfo;
mod node;
mod options;
mod passthrough;
mod release_files;
mod router;
mod run_file;
mod share_file;
mod status;

pub use node::{Node, NodeError};
pub use options::{NodeOptions, Role};
pub use run_file::RunFile;
pub use share_file::ShareFile;
