//! Upstreams: the binary caches on the web that are asked for what the swarm does not have. Each under a deadline,
//! with a breaker and a resolver of its own, so that a dead one costs seconds once and then nothing.

mod below;
mod body;
mod breaker;
mod client;
mod decompress;
mod line;
mod netrc;
mod resolver;

pub use breaker::BreakerState;
pub use client::{Body, Upstream, UpstreamError, UpstreamOptions};
pub use decompress::decompress;
pub use netrc::{Credentials, Netrc, NetrcError};
pub use resolver::{ResolvePin, ResolvePinError};
