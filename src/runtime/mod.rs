//! What every floor may use: the counters that `status` shows.

mod accounting;
mod counters;
mod newest;

pub use accounting::{Account, Accounting};
pub use counters::{Counters, Source, Totals};
