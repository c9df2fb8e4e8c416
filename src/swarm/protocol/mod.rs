//! The peer wire protocol: handshakes, messages, and addresses in their compact form.

pub mod announce;
pub mod announce_client;
mod compact_peers;
pub mod incoming;
pub mod messages;
mod peer_id;
mod request;
mod sieve;
mod wire;

pub use incoming::{Incoming, IncomingError};
pub use peer_id::{PeerId, Program};
pub use request::{BLOCK, REQUEST_WINDOW, Request};
pub use sieve::sift;
pub use wire::{MAX_REQUEST, PeerHello, PeerMessage, PeerReader, WireError};
