//! Verified manifests merged into one catalog, kept on disk, and what of it this machine can offer.

mod entry;
mod info_dicts;
mod merged;
mod offers;
mod shelf;

pub use entry::Entry;
pub use info_dicts::{InfoDicts, InfoDictsError};
pub use merged::{Catalog, PlainFile, Release};
pub use offers::{Offers, PayloadCopy};
pub use shelf::{Shelf, ShelfError};
