//! narswarm: a BitTorrent-based Nix substituter.
//!
//! **The publish side.** A release's store paths go in, a signed manifest comes out:
//! ```text
//! publish::PathSource (a store, a binary cache)
//!   -> payload::describe     each NAR: hash checked, cut into frames, compressed, hashed piece by piece
//!   -> manifest::assemble    rows into layers, after those of the predecessor
//!   -> manifest::SignedManifest, Pointer  -> DIR/manifest, layers/, pointer, *.torrent, magnet
//! ```
//! **The agent side.** Manifests come in, and Nix gets its packages:
//! ```text
//! follow::Channels (a directory, a URL, the swarm) -- verify --> catalog::Catalog, kept on catalog::Shelf
//! store::Store     (what Nix has installed)        ------------> catalog::Offers
//!
//! Nix -> serve (the shim, a file per route) -> substitute::Substituter
//!          narinfo: a trusted row of the catalog, else an upstream's
//!          NAR:     the store, else the swarm, else an upstream; its last byte leaves only with the right NarHash
//!                   (an installed path that was whole is not hashed again for an hour)
//!             swarm::Downloads  librqbit fills a part file, frames are decoded as their pieces come
//!             UpstreamFetches   one fetch for all who ask; its bytes wait in a swarm::Spool, and become the payload
//! peers -> swarm (one public port) -> the seeder: pieces of running downloads, of payload files,
//!             or re-created from installed paths (payload::recreate_frame), each checked before it leaves
//! ```
//! A seedbox is the agent side without Nix: the same swarm, offering a store or a directory of payloads.
//!
//! The folders are floors; a file uses its own folder and lower floors (held by `tests/floors.rs`):
//! ```text
//! cli -> config -> publish | serve -> follow | substitute -> swarm -> upstream
//!     -> catalog -> store | payload -> manifest -> nix | torrent | runtime
//! ```
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod catalog;
pub mod cli;
pub mod config;
pub mod follow;
pub mod manifest;
pub mod nix;
pub mod payload;
pub mod publish;
pub mod runtime;
pub mod serve;
pub mod store;
pub mod substitute;
pub mod swarm;
pub mod torrent;
pub mod upstream;
