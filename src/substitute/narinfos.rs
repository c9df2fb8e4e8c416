//! Upstreams' narinfos, remembered from the question until the NAR is fetched.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::nix::{HashPart, Narinfo};
use crate::upstream::{Upstream, UpstreamError};

#[derive(Default)]
pub struct Narinfos {
    known: Mutex<HashMap<(String, HashPart), (Instant, Narinfo)>>,
}

/// Nix asks for all narinfos of a batch and then for the NARs; an hour covers the slowest.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// About 1 kB each.
const MAX_REMEMBERED: usize = 20_000;

impl Narinfos {
    /// Asks anew the next time.
    pub fn forget(&self, upstream: &Upstream, hash_part: &HashPart) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.remove(&(upstream.url().to_string(), *hash_part));
    }

    pub async fn from(
        &self,
        upstream: &Arc<Upstream>,
        hash_part: &HashPart,
    ) -> Result<Option<Narinfo>, UpstreamError> {
        let key = (upstream.url().to_string(), *hash_part);
        if let Some((at, narinfo)) = self
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            && at.elapsed() < REMEMBERED
        {
            return Ok(Some(narinfo.clone()));
        }
        let found = upstream.narinfo(hash_part).await?;
        // A cache that answers for another path would be refused by Nix, with an error for the user.
        let found = found.filter(|narinfo| narinfo.store_path.hash_part() == *hash_part);
        if let Some(narinfo) = &found {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            if known.len() >= MAX_REMEMBERED {
                known.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
            }
            if known.len() < MAX_REMEMBERED {
                known.insert(key, (Instant::now(), narinfo.clone()));
            }
        }
        Ok(found)
    }
}
