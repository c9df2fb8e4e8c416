//! NARs, Nix's archives: the plan of one that is read from files, and a strict parser.
//!
//! A NAR is a sequence of words, each a little-endian u64 length, the bytes, and zeros up to a multiple of 8:
//! ```text
//! nix-archive-1 ( type directory
//!   entry ( name bin node ( type regular executable "" contents BYTES ) )
//!   entry ( name sh  node ( type symlink target bin ) ) )
//! ```
//! Entries ascend by the bytes of their names, so a tree has exactly one NAR.
//! Source: `src/libutil/archive.cc` in NixOS/nix.

mod layout;
mod layout_builder;
mod limits;
mod nar_error;
mod parser;
mod segment;
mod sink;

pub use layout::Layout;
pub use layout_builder::LayoutBuilder;
pub use limits::Limits;
pub use nar_error::NarError;
pub use parser::read;
pub use segment::Segment;
pub use sink::Sink;

/// The first word.
const MAGIC: &[u8] = b"nix-archive-1";

/// Words are padded with zeros to a multiple of this.
const ALIGNMENT: u64 = 8;

/// The number of zeros behind a word of `len` bytes.
const fn padding(len: u64) -> usize {
    // Less than 8, so it fits.
    (len.wrapping_neg() % ALIGNMENT) as usize
}

/// What makes a name unfit for an entry, beyond its length.
fn name_fault(name: &[u8]) -> Option<&'static str> {
    match name {
        b"" => Some("it is empty"),
        b"." | b".." => Some("it is not a file name"),
        _ if name.contains(&b'/') => Some("it contains a slash"),
        _ if name.contains(&0) => Some("it contains a zero byte"),
        _ => None,
    }
}
