//! What every floor may use: the counters that `status` shows, a meter of rates, and files that appear whole.

mod accounting;
mod counters;
mod meter;
mod new_file;
mod newest;

pub use accounting::{Account, Accounting};
pub use counters::{Counters, Source, Totals};
pub use meter::Meter;
pub use new_file::{NewFile, Readers, remove_leftovers, write_new};
