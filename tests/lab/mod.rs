//! What the tests that use real programs share.

#![allow(unused_imports, reason = "each test file uses its part")]

mod need;
mod nix;

pub use need::Need;
pub use nix::{Nix, make_writable, store_path};
