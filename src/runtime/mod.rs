//! What every floor may use: the counters that `status` shows.

mod counters;

pub use counters::{Counters, Source, Totals};
