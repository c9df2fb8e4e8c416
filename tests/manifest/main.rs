//! The promises of the manifest formats, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bounds;
mod flips;
mod golden;
mod releases;
mod sample;
mod vectors;
mod verify;
