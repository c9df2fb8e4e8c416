//! Info dicts of what is wanted: kept ones, and those that neighbours or peers have.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use moka::future::Cache;
use tokio::time::timeout;

use crate::catalog::InfoDicts;
use crate::torrent::{InfoDict, InfoHash};

use super::downloads::DownloadError;
use super::metadata::{self, MetadataError};
use super::sources::Sources;
use super::wanted::Wanted;

/// A peer that has sent the info dict so long ago may be gone; Nix takes the NARs of most batches sooner.
const SHOWN_LATELY: Duration = Duration::from_secs(600);
/// Info dicts in memory between narinfo and NAR; most have a few hundred bytes.
const KNOWN_INFOS: u64 = 1000;
/// A neighbour answers in a round trip when it knows the info dict.
const NEIGHBOUR_HEAD_START: Duration = Duration::from_millis(300);
/// It may have to encode a large NAR to compute it.
const NEIGHBOUR_PATIENCE: Duration = Duration::from_secs(20);

pub struct InfoFinder {
    sources: Arc<Sources>,
    kept: Arc<InfoDicts>,
    /// Info dicts of a moment ago, and those being fetched.
    known: Cache<InfoHash, Arc<InfoDict>>,
    /// Payloads of which a peer has just sent the info dict.
    shown: Cache<InfoHash, ()>,
    peer_id: [u8; 20],
}

impl InfoFinder {
    pub fn new(sources: Arc<Sources>, kept: Arc<InfoDicts>, peer_id: [u8; 20]) -> Self {
        Self {
            sources,
            kept,
            known: Cache::new(KNOWN_INFOS),
            shown: Cache::builder()
                .max_capacity(KNOWN_INFOS)
                .time_to_live(SHOWN_LATELY)
                .build(),
            peer_id,
        }
    }

    /// Whether a peer has shown lately that it has this payload.
    pub fn was_shown(&self, info_hash: &InfoHash) -> bool {
        self.shown.contains_key(info_hash)
    }

    /// The info dict: kept, or fetched from peers and kept. Whoever asks at the same time shares one fetch.
    pub async fn find(&self, wanted: Wanted) -> Result<Arc<InfoDict>, DownloadError> {
        // Even when the info dict is here: the download needs holders next.
        self.sources.gossip().seek(wanted.info_hash);
        let found = self
            .known
            .try_get_with(wanted.info_hash, self.look(wanted))
            .await;
        found.map_err(DownloadError::Shared)
    }

    async fn look(&self, wanted: Wanted) -> Result<Arc<InfoDict>, DownloadError> {
        match self.kept.get(&wanted.info_hash) {
            Ok(Some(info)) => return Ok(Arc::new(info)),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "an info dict could not be read"),
        }
        if !self.sources.has_any() {
            return Err(DownloadError::NoPeers);
        }
        let info = self.fetch_info(wanted.info_hash).await?;
        self.shown.insert(wanted.info_hash, ()).await;
        if !wanted.length.allows(info.length) {
            return Err(DownloadError::Length {
                expected: wanted.length,
                found: info.length,
            });
        }
        if let Err(error) = self.kept.put(&info) {
            // It is only sought again after a restart.
            tracing::warn!(%error, "an info dict could not be kept");
        }
        Ok(info)
    }

    /// A neighbour that has the payload answers in one round trip; the others are asked when it does not.
    async fn fetch_info(&self, info_hash: InfoHash) -> Result<Arc<InfoDict>, MetadataError> {
        let mut from_neighbour = pin!(self.sources.gossip().info(info_hash));
        let silent = match timeout(NEIGHBOUR_HEAD_START, &mut from_neighbour).await {
            Ok(Some(info)) => return Ok(info),
            Ok(None) => false,
            Err(_) => true,
        };
        let ask = metadata::fetch(&self.sources, info_hash, self.peer_id);
        if !silent {
            return ask.await.map(Arc::new);
        }
        let mut asked = pin!(ask);
        tokio::select! {
            Some(info) = &mut from_neighbour => Ok(info),
            asked = &mut asked => match asked {
                Ok(info) => Ok(Arc::new(info)),
                // It may be computing the dict, and be the only one that can.
                Err(error) => match timeout(NEIGHBOUR_PATIENCE, from_neighbour).await {
                    Ok(Some(info)) => Ok(info),
                    _ => Err(error),
                },
            },
        }
    }
}
