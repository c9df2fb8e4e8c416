//! Installed paths that were sent before, whole and with the right NarHash: they are sent again straight from disk.
//!
//! To hash them each time would be most of the work (a GB takes half a second of a core), and would find nothing: the
//! store is read-only, a path that Nix removes leaves the offers, a file of another size is noticed, and Nix hashes
//! whatever it gets once more before it believes it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use moka::future::Cache;
use tokio::task::spawn_blocking;

use crate::nix::nar::Layout;
use crate::nix::{HashPart, NarHash, StorePath};
use crate::runtime::{Counters, Source};
use crate::store::scan;

use super::active::ActiveNars;
use super::buffers::Buffers;
use super::nar_body::NarBody;
use super::plan::Plan;
use super::source::Chunk;
use super::store_source;

/// Memory for layouts: some hundred bytes a path, and fifty or so a file in it.
const MEMORY: u64 = 16 << 20;
/// After this time a path is hashed again: should the disk have failed, Nix gets the bytes from elsewhere from then on.
const LASTING: Duration = Duration::from_secs(3600);

pub struct Proven {
    paths: Cache<(HashPart, NarHash), Arc<ProvenPath>>,
    buffers: Arc<Buffers>,
    active: Arc<ActiveNars>,
    counters: Arc<Counters>,
}

struct ProvenPath {
    store_path: StorePath,
    channel: String,
    layout: Arc<Layout>,
}

impl Proven {
    pub fn new(
        buffers: Arc<Buffers>,
        active: Arc<ActiveNars>,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let paths = Cache::builder()
            .max_capacity(MEMORY)
            .weigher(|_, path: &Arc<ProvenPath>| path.layout.memory())
            .time_to_live(LASTING)
            .build();
        Arc::new(Self {
            paths,
            buffers,
            active,
            counters,
        })
    }

    /// This path was sent with the NarHash that it should have.
    pub async fn note(&self, plan: &Plan, path: PathBuf) {
        let key = (plan.store_path.hash_part(), plan.nar_hash);
        // It was read a moment ago: that it cannot be read now is found out soon enough.
        if let Ok(Ok(layout)) = spawn_blocking(move || scan(&path)).await {
            let proven = ProvenPath {
                store_path: plan.store_path.clone(),
                channel: plan.channel.clone(),
                layout: Arc::new(layout),
            };
            self.paths.insert(key, Arc::new(proven)).await;
        }
    }

    /// Its NAR from byte `from` on; `None` when it must be proven first.
    pub async fn nar(
        &self,
        hash_part: &HashPart,
        nar_hash: &NarHash,
        from: u64,
    ) -> Option<NarBody> {
        let key = (*hash_part, *nar_hash);
        let path = self.paths.get(&key).await?;
        let size = path.layout.size();
        if from >= size {
            return None;
        }
        let mut source = store_source::resume(path.layout.clone(), from, self.buffers.clone());
        let Some(Ok(first)) = source.next().await else {
            self.paths.invalidate(&key).await;
            return None;
        };
        let active = self
            .active
            .enter(path.store_path.clone(), size, Source::Store);
        let counters = self.counters.clone();
        let sent = stream::once(async { Ok(first) })
            .chain(source)
            .map(move |chunk| {
                let Chunk { start, bytes } = chunk?;
                counters.served(&path.channel, Source::Store, bytes.len() as u64);
                active
                    .nar
                    .progressed(start + bytes.len() as u64, Source::Store);
                Ok(bytes)
            });
        Some(NarBody {
            size,
            bytes: sent.boxed(),
        })
    }
}
