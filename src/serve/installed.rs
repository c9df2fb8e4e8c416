//! What Nix has installed, read from its database whenever that changes.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::catalog::Offers;
use crate::runtime::Counters;
use crate::store::{Generation, StoreError};

/// How often the store's database is looked at for a change: two stats. What Nix has just installed is offered soon.
const STORE_INTERVAL: Duration = Duration::from_secs(2);

/// Keeps what is installed up to date until `stop`.
pub async fn watch_store(offers: Arc<Offers>, counters: Arc<Counters>, stop: CancellationToken) {
    let mut seen = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(STORE_INTERVAL) => {}
        }
        read_installed(&offers, &counters, &mut seen).await;
    }
}

/// Reads the whole table of valid paths when the database has changed since `seen`.
pub async fn read_installed(
    offers: &Arc<Offers>,
    counters: &Arc<Counters>,
    seen: &mut Option<Generation>,
) {
    let Some(store) = offers.store().cloned() else {
        return;
    };
    let before = seen.clone();
    let read = tokio::task::spawn_blocking(move || {
        let generation = store.generation();
        if before.as_ref() == Some(&generation) {
            return Ok(None);
        }
        let installed = match store.has_database() {
            true => store.valid_hashes()?,
            false => vec![],
        };
        Ok::<_, StoreError>(Some((generation, installed)))
    });
    match read.await {
        Ok(Ok(Some((generation, installed)))) => {
            offers.set_installed(installed);
            *seen = Some(generation);
        }
        Ok(Ok(None)) | Err(_) => {}
        Ok(Err(error)) => counters.error(format!("the store: {error}")),
    }
}
