//! The answers to Nix: narinfos and NARs, from the catalog and the store, the swarm, the upstreams.

mod planning;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::catalog::{Entry, Offers};
use crate::manifest::ChannelName;
use crate::nix::{HashPart, NarHash, Narinfo, StoreDir, TrustedKeys};
use crate::runtime::Counters;
use crate::swarm::Downloads;
use crate::upstream::{Body, Upstream, UpstreamError, UpstreamOptions};

use crate::substitute::active::{ActiveNar, ActiveNars};
use crate::substitute::buffers::Buffers;
use crate::substitute::caches::Caches;
use crate::substitute::coming::Coming;
use crate::substitute::nar_body::{self, NarBody};
use crate::substitute::plan::Means;
use crate::substitute::prefetch::Prefetch;
use crate::substitute::proven::Proven;
use crate::substitute::quarantine::Culprit;
use crate::substitute::upstream_fetch::UpstreamFetches;

/// What is wrong with a channel is said again after so long: `status` has forgotten it by then.
const TOLD_AGAIN: Duration = Duration::from_secs(3600);
/// A channel whose first release has not come so long after the start is not waited for any more.
const FIRST_RELEASES: Duration = Duration::from_secs(10);

/// What a substituter is made of.
pub struct SubstituterParts {
    pub offers: Arc<Offers>,
    pub downloads: Option<Arc<Downloads>>,
    /// Asked in this order.
    pub upstreams: Vec<UpstreamOptions>,
    pub keys: TrustedKeys,
    pub counters: Arc<Counters>,
}

pub struct Substituter {
    offers: Arc<Offers>,
    caches: RwLock<Arc<Caches>>,
    prefetch: Option<Arc<Prefetch>>,
    means: Means,
    /// Channels of which it was said that they list what nobody trusted has signed, and when.
    untrusted: Mutex<HashMap<ChannelName, Instant>>,
    started: Instant,
}

impl Substituter {
    pub fn new(parts: SubstituterParts) -> Result<Self, UpstreamError> {
        let (narinfos, experience) = (Arc::default(), Arc::default());
        let (buffers, active) = (Arc::<Buffers>::default(), Arc::<ActiveNars>::default());
        let means = Means {
            fetches: Arc::new(UpstreamFetches::new(
                parts.downloads.clone(),
                Arc::clone(&narinfos),
                Arc::clone(&experience),
                parts.counters.clone(),
            )),
            downloads: parts.downloads.clone(),
            narinfos,
            proven: Proven::new(buffers.clone(), active.clone(), parts.counters.clone()),
            buffers,
            quarantine: Arc::default(),
            experience,
            counters: parts.counters,
            active,
        };
        let prefetch = parts
            .downloads
            .map(|downloads| Prefetch::new(parts.offers.clone(), downloads, means.clone()));
        let substituter = Self {
            offers: parts.offers,
            caches: RwLock::default(),
            prefetch,
            means,
            untrusted: Mutex::default(),
            started: Instant::now(),
        };
        let caches = substituter.prepare(parts.upstreams, parts.keys)?;
        substituter.reconfigure(caches);
        Ok(substituter)
    }

    /// What `reconfigure` takes over: upstreams that are asked already keep what was seen of them.
    pub fn prepare(
        &self,
        upstreams: Vec<UpstreamOptions>,
        keys: TrustedKeys,
    ) -> Result<Caches, UpstreamError> {
        self.caches().changed_to(upstreams, keys)
    }

    /// Asks these upstreams, and trusts these keys, from now on.
    pub fn reconfigure(&self, caches: Caches) {
        *self.caches.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(caches);
        self.untrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    fn caches(&self) -> Arc<Caches> {
        self.caches
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The store dir that all narinfos speak of: releases for another one are not in the catalog.
    pub fn store_dir(&self) -> StoreDir {
        let store = self.offers.store();
        store.map_or_else(StoreDir::default, |store| store.store_dir().clone())
    }

    pub fn upstreams(&self) -> Vec<Arc<Upstream>> {
        self.caches().upstreams.clone()
    }

    pub fn active(&self) -> Vec<Arc<ActiveNar>> {
        self.means.active.list()
    }

    /// The narinfo of a store path: from a verified manifest, else from an upstream. `None` is a 404.
    pub async fn narinfo(&self, hash_part: &HashPart) -> Option<Narinfo> {
        if let Some(row) = self.rows(hash_part).next() {
            if !self.offers.is_installed(hash_part, &row.nar_hash) {
                self.will_come(Coming::listed(&row));
            }
            return Some(row.narinfo());
        }
        let honest = |upstream: &Upstream, narinfo: &Narinfo| {
            let culprit = Culprit::Upstream(upstream.url().to_string(), narinfo.nar_hash);
            !self.means.quarantine.has(&culprit)
        };
        let asked = self
            .caches()
            .ask(&self.means.narinfos, hash_part, honest)
            .await;
        let absent = !matches!(asked, Ok(Some(_)));
        if absent && self.first_releases_came().await {
            return Box::pin(self.narinfo(hash_part)).await;
        }
        if asked.is_err() {
            self.means.counters.refused(hash_part.to_string());
        }
        let narinfo = asked.ok().flatten()?;
        if !self.offers.is_installed(hash_part, &narinfo.nar_hash) {
            self.will_come(Coming::passed_through(&narinfo));
        }
        Some(narinfo.raw())
    }

    /// Nix remembers a 404: a machine that is just getting its first manifests rather waits for them. Returns whether it
    /// did, and they came.
    async fn first_releases_came(&self) -> bool {
        let until = self.started + FIRST_RELEASES;
        let came = timeout_at(until, self.offers.completed()).await;
        came.unwrap_or(false)
    }

    fn will_come(&self, path: Coming) {
        if let Some(prefetch) = &self.prefetch {
            prefetch.narinfo_asked(path, self.upstreams());
        }
    }

    /// The NAR of a store path from byte `from` on. `None` is a 404.
    pub async fn nar(
        &self,
        hash_part: &HashPart,
        nar_hash: &NarHash,
        from: u64,
    ) -> Option<NarBody> {
        if self.offers.is_installed(hash_part, nar_hash)
            && let Some(nar) = self.means.proven.nar(hash_part, nar_hash, from).await
        {
            return Some(nar);
        }
        let mut plan = self.plan(hash_part, nar_hash).await?;
        if from >= plan.nar_size {
            return None;
        }
        if let Some(prefetch) = &self.prefetch {
            plan.held = prefetch.nar_asked(hash_part, nar_hash, &self.upstreams());
        }
        let body = nar_body::start(plan, from, self.means.clone()).await;
        if body.is_none() {
            // Nix was told that it is there.
            self.means.counters.refused(hash_part.to_string());
        }
        body
    }

    /// The size of a NAR that `nar` would send.
    pub async fn nar_size(&self, hash_part: &HashPart, nar_hash: &NarHash) -> Option<u64> {
        self.plan(hash_part, nar_hash)
            .await
            .map(|plan| plan.nar_size)
    }

    /// A file that only upstreams have: logs, listings, realisations, debug info.
    pub async fn file(&self, path: &str) -> Option<Body> {
        for upstream in &self.caches().upstreams {
            match upstream.file(path).await {
                Ok(Some(body)) => return Some(body),
                Ok(None) => {}
                Err(error) => tracing::debug!(path, %error, "not passed through"),
            }
        }
        None
    }

    /// Rows that Nix would accept and that were not caught lying.
    fn rows(&self, hash_part: &HashPart) -> impl Iterator<Item = Entry> {
        let catalog = self.offers.catalog();
        let rows: Vec<Entry> = catalog.find(hash_part).collect();
        rows.into_iter().filter(|row| {
            !self.means.quarantine.has(&Culprit::payload(row)) && self.is_trusted(row)
        })
    }

    fn is_trusted(&self, row: &Entry) -> bool {
        let trusted = row.is_trusted(&self.caches().keys);
        if !trusted && self.tells_untrusted(&row.channel) {
            let store_path = &row.store_path;
            self.means.counters.error(format!(
                "{store_path} is listed by a manifest, but none of its signatures is by a trusted key: it is not \
                 served. Add the key to trusted_keys, or ask the publisher"
            ));
        }
        trusted
    }

    /// Whether it should be said: an untrusted row is rarely its channel's only one.
    fn tells_untrusted(&self, channel: &ChannelName) -> bool {
        let mut told = self
            .untrusted
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let tells = told
            .get(channel)
            .is_none_or(|at| at.elapsed() >= TOLD_AGAIN);
        if tells {
            told.insert(channel.clone(), Instant::now());
        }
        tells
    }
}
