//! Who may have a NAR, and in which order they are asked.

use std::collections::HashSet;
use std::path::PathBuf;

use crate::catalog::Entry;
use crate::nix::{HashPart, NarHash, Narinfo, StorePath};
use crate::substitute::plan::{Candidate, Plan};
use crate::substitute::quarantine::Culprit;
use crate::substitute::upstream_fetch::FetchProgress;
use crate::swarm::Prospect;
use crate::upstream::Upstream;

use super::Substituter;

impl Substituter {
    /// Installed, then the swarm, then the upstreams.
    pub(super) async fn plan(&self, hash_part: &HashPart, nar_hash: &NarHash) -> Option<Plan> {
        let rows: Vec<Entry> = self
            .rows(hash_part)
            .filter(|row| row.nar_hash == *nar_hash)
            .collect();
        let installed = self.installed(hash_part, nar_hash, rows.first()).await;
        let known = installed
            .as_ref()
            .map(|(store_path, size, _)| (store_path.clone(), *size));
        let known = known.or_else(|| {
            rows.first()
                .map(|row| (row.store_path.clone(), row.nar_size))
        });
        let (store_path, nar_size) = match known {
            Some(known) => known,
            None => self.known_upstream(hash_part, nar_hash).await?,
        };
        let channel = rows
            .first()
            .map_or(String::new(), |row| row.channel.to_string());
        let store = installed.map(|(_, _, path)| Candidate::Store(path));
        // Channels may name different payloads for one NAR, and one of them may lie.
        let mut seen = HashSet::new();
        let swarm = rows
            .into_iter()
            .filter(|row| seen.insert(Culprit::payload(row)));
        let swarm = swarm.map(|row| Candidate::Swarm(Box::new(row)));
        let upstreams = self.upstreams().into_iter().map(Candidate::Upstream);
        let mut candidates: Vec<Candidate> =
            store.into_iter().chain(swarm).chain(upstreams).collect();
        candidates.sort_by_key(|candidate| self.rank(candidate, nar_hash));
        Some(Plan {
            store_path,
            channel,
            nar_hash: *nar_hash,
            nar_size,
            candidates,
            held: None,
        })
    }

    /// The lower the sooner; equal ones stay as they are.
    fn rank(&self, candidate: &Candidate, nar_hash: &NarHash) -> u8 {
        match candidate {
            Candidate::Store(_) => 0,
            Candidate::Swarm(row) => match self.means.prospect(&row.info_hash) {
                Prospect::Here => 2,
                // Nobody could give it, or the swarm keeps losing: behind the upstreams that are well.
                Prospect::Nobody => 6,
                _ if self.means.experience.avoids_swarm() => 6,
                Prospect::Shown | Prospect::Reachable => 4,
            },
            Candidate::Upstream(upstream) => {
                match self.means.fetches.progress(upstream, nar_hash) {
                    FetchProgress::Whole => 1,
                    FetchProgress::UnderWay => 3,
                    FetchProgress::None if candidate.is_promising() => 5,
                    FetchProgress::None => 7,
                }
            }
        }
    }

    /// The path on disk of an installed NAR, with its store path and size.
    async fn installed(
        &self,
        hash_part: &HashPart,
        nar_hash: &NarHash,
        row: Option<&Entry>,
    ) -> Option<(StorePath, u64, PathBuf)> {
        if !self.offers.is_installed(hash_part, nar_hash)
            || self.means.quarantine.has(&Culprit::StorePath(*hash_part))
        {
            return None;
        }
        let store = self.offers.store()?;
        if let Some(row) = row {
            return Some((
                row.store_path.clone(),
                row.nar_size,
                store.real_path(&row.store_path),
            ));
        }
        let (store, hash_part) = (store.clone(), *hash_part);
        let info = tokio::task::spawn_blocking(move || {
            store
                .path_info(&hash_part)
                .map(|info| info.map(|info| (store, info)))
        });
        let (store, info) = info
            .await
            .ok()?
            .inspect_err(|error| tracing::warn!(%error, "the store database"))
            .ok()??;
        let path = store.real_path(&info.store_path);
        Some((info.store_path, info.nar_size, path))
    }

    async fn known_upstream(
        &self,
        hash_part: &HashPart,
        nar_hash: &NarHash,
    ) -> Option<(StorePath, u64)> {
        let same = |_: &Upstream, narinfo: &Narinfo| narinfo.nar_hash == *nar_hash;
        let narinfo = self
            .caches()
            .ask(&self.means.narinfos, hash_part, same)
            .await
            .ok()??;
        Some((narinfo.store_path, narinfo.nar_size))
    }
}
