//! What the tests that use real programs share.

#![allow(unused_imports, reason = "each test file uses its part")]

mod hosts;
mod mount;
mod narswarm;
mod need;
mod nix;
mod place;
mod publication;

pub use hosts::{Hosts, Way};
pub use mount::Mount;
pub use narswarm::{Outcome, PROGRAM, narswarm};
pub use need::{Need, is_installed, is_root};
pub use nix::{Nix, make_writable, store_path};
pub use place::Place;
pub use publication::{Keys, Publication, Release};
