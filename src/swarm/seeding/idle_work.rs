//! Info dicts of what is installed, computed while nobody downloads and somebody might: a cold request for a large NAR then
//! takes the time of one frame, not of the whole NAR.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::torrent::InfoHash;

use super::offer_book::OfferBook;
use super::slots::Slots;
use crate::swarm::share::{Share, SharePolicy};

/// Whoever starts the program wants something of it first. The work itself gives way to everything else (`Encoding`).
const FIRST_LOOK: Duration = Duration::from_secs(10);
/// From the end of one look at the offer to the next, if anything has changed: paths are installed now and then.
const LOOK_INTERVAL: Duration = Duration::from_secs(600);
/// While somebody downloads.
const BUSY_PAUSE: Duration = Duration::from_secs(10);
/// After each NAR, in times of what it took: a fifth of a core at most.
const REST: u32 = 4;

pub struct IdleWork {
    pub book: Arc<OfferBook>,
    pub slots: Slots,
    pub policy: Arc<SharePolicy>,
}

impl IdleWork {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            tokio::time::sleep(FIRST_LOOK).await;
            let mut changes = self.book.changes();
            loop {
                self.is_of_use().await;
                changes.mark_unchanged();
                let book = self.book.clone();
                let unknown = tokio::task::spawn_blocking(move || book.undescribed()).await;
                for info_hash in unknown.unwrap_or_default() {
                    self.describe(&info_hash).await;
                }
                tokio::time::sleep(LOOK_INTERVAL).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        })
        .await;
    }

    /// While nothing is shared nobody will ask.
    async fn is_of_use(&self) {
        self.policy.until(|share| share != Share::Off).await;
    }

    async fn describe(&self, info_hash: &InfoHash) {
        self.is_of_use().await;
        while self.slots.are_taken() {
            tokio::time::sleep(BUSY_PAUSE).await;
            self.is_of_use().await;
        }
        let Some(offer) = self.book.find(info_hash) else {
            return;
        };
        let start = Instant::now();
        if let Err(error) = offer.info().await {
            tracing::warn!(%info_hash, %error, "an info dict could not be computed");
        }
        tokio::time::sleep(start.elapsed() * REST).await;
    }
}
