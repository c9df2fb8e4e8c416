//! Substitution policy: which source answers Nix, in which order, and what happens when one fails.

mod active;
mod buffers;
mod caches;
mod coming;
mod experience;
mod lane;
mod line_speed;
mod nar_body;
mod narinfos;
mod payload_source;
mod plan;
mod prefetch;
mod proven;
mod quarantine;
mod race;
mod source;
mod store_source;
mod substituter;
mod upstream_fetch;
mod upstream_source;

pub use active::ActiveNar;
pub use caches::Caches;
pub use nar_body::NarBody;
pub use substituter::{Substituter, SubstituterParts};
