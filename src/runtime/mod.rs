//! What every floor may use: the counters that `status` shows, and files that appear whole.

mod accounting;
mod counters;
mod new_file;
mod newest;

pub use accounting::{Account, Accounting};
pub use counters::{Counters, Source, Totals};
pub use new_file::{NewFile, Readers, remove_leftovers, write_new};
