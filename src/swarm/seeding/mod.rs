//! What this machine gives: from the store or from payload files, to whom, and how fast.

mod copy_error;
mod crowd;
mod crowd_member;
mod crowds;
mod encoding;
mod idle_work;
mod invitations;
mod limits;
mod offer;
mod offer_book;
mod open_nar;
mod rarity;
mod seeder;
mod slots;
mod tracker;
mod upload;
mod upload_rates;
mod workshop;

pub use crowds::{CROWD_PIECES, Crowds};
pub use encoding::Recreation;
pub use idle_work::IdleWork;
pub use invitations::Invitations;
pub use limits::{Place, Places};
pub use offer::OfferError;
pub use offer_book::{OfferBook, OfferSummary};
pub use seeder::{Seeder, SeederError, Visit};
pub use slots::Slots;
pub use tracker::Tracker;
pub use upload::Keeping;
pub use upload_rates::{ScheduledLimit, TimeOfDay, UploadLimits, UploadRates};
