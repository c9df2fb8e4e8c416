//! Info dicts, while nobody downloads: those of what is installed are computed, if anybody might ask for them, so that a
//! cold request for a large NAR takes the time of one frame, not of the whole NAR; those of releases that are gone are
//! forgotten.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::catalog::{InfoDicts, InfoDictsError};
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
/// Info dicts that no release needs are kept up to so many (mostly 1 kB each), and up to twice what the releases list: a
/// channel that is followed again, or a release that comes back, finds its own.
const SPARE_INFOS: u64 = 10_000;

pub struct IdleWork {
    pub book: Arc<OfferBook>,
    pub infos: Arc<InfoDicts>,
    pub slots: Slots,
    pub policy: Arc<SharePolicy>,
}

impl IdleWork {
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(async {
            tokio::time::sleep(FIRST_LOOK).await;
            tokio::join!(self.describe_all(), self.forget_all(&stop));
        })
        .await;
    }

    async fn describe_all(&self) {
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
    }

    async fn forget_all(&self, stop: &CancellationToken) {
        let mut changes = self.book.changes();
        loop {
            self.book.completed().await;
            changes.mark_unchanged();
            self.forget(stop).await;
            tokio::time::sleep(LOOK_INTERVAL).await;
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Lets go of what no release lists any more, once it is much.
    async fn forget(&self, stop: &CancellationToken) {
        let (book, infos, stop) = (self.book.clone(), self.infos.clone(), stop.clone());
        let forgetting = move || forget(&infos, &book, &stop);
        if let Ok(Err(error)) = tokio::task::spawn_blocking(forgetting).await {
            tracing::warn!(%error, "info dicts of releases that are gone stay");
        }
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

/// In steps, between which others have the file.
fn forget(
    infos: &InfoDicts,
    book: &OfferBook,
    stop: &CancellationToken,
) -> Result<(), InfoDictsError> {
    // A channel whose release is still to come needs what is known of it.
    let Some(listed) = book.listed() else {
        return Ok(());
    };
    let before = infos.count()?;
    if before <= SPARE_INFOS.max(2 * listed) {
        return Ok(());
    }
    let mut after = None;
    while !stop.is_cancelled() {
        after = infos.forget_some(after, |info_hash| book.needs_info(info_hash))?;
        if after.is_none() {
            break;
        }
    }
    let left = infos.count()?;
    tracing::info!(
        before,
        left,
        "info dicts of releases that are gone were forgotten"
    );
    Ok(())
}
