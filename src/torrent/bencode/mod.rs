//! Canonical bencode (BEP 3), read without copying and written in order.
//!
//! ```text
//! d4:name5:hello6:lengthi42e5:partsl1:a1:bee
//! ```
//! is refused: `length` sorts before `name`. One value has one encoding here, so that what is hashed or signed
//! cannot be written in two ways. General readers accept more than that and copy every string; a manifest layer
//! is 20 MB of strings.

mod error;
mod reader;
mod writer;

pub use error::BencodeError;
pub use reader::Reader;
pub use writer::Writer;
