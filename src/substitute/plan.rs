//! What is asked for and who may have it.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::stream::{self, StreamExt, TryStreamExt};

use crate::catalog::Entry;
use crate::nix::{NarHash, StorePath};
use crate::runtime::{Counters, Source};
use crate::swarm::{Downloads, Prospect};
use crate::torrent::InfoHash;
use crate::upstream::{BreakerState, Upstream};

use super::active::ActiveNars;
use super::buffers::Buffers;
use super::experience::Experience;
use super::narinfos::Narinfos;
use super::prefetch::Held;
use super::proven::Proven;
use super::quarantine::{Culprit, Quarantine};
use super::source::{Position, SourceError, SourceStream};
use super::upstream_fetch::{UpstreamFetches, WantedNar};
use super::{payload_source, store_source, upstream_source};

/// A source that may be asked.
#[derive(Clone)]
pub enum Candidate {
    Store(PathBuf),
    Swarm(Box<Entry>),
    Upstream(Arc<Upstream>),
}

/// A NAR and its candidates in the order of preference.
pub struct Plan {
    pub store_path: StorePath,
    /// The channel that lists it, for the accounting; "" if none does.
    pub channel: String,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub candidates: Vec<Candidate>,
    /// What was fetched ahead for it stays until it is served.
    pub held: Option<Held>,
}

/// What the work on every NAR needs.
#[derive(Clone)]
pub struct Means {
    pub downloads: Option<Arc<Downloads>>,
    pub narinfos: Arc<Narinfos>,
    pub fetches: Arc<UpstreamFetches>,
    pub proven: Arc<Proven>,
    pub buffers: Arc<Buffers>,
    pub quarantine: Arc<Quarantine>,
    pub experience: Arc<Experience>,
    pub counters: Arc<Counters>,
    pub active: Arc<ActiveNars>,
}

impl Means {
    /// What there is to expect of the swarm for a payload.
    pub fn prospect(&self, info_hash: &InfoHash) -> Prospect {
        let downloads = self.downloads.as_ref();
        downloads.map_or(Prospect::Nobody, |downloads| downloads.prospect(info_hash))
    }

    /// A candidate is not the NAR of the plan: it is left alone for a while.
    pub async fn accuse(&self, candidate: &Candidate, plan: &Plan) {
        if let (Candidate::Swarm(row), Some(downloads)) = (candidate, &self.downloads)
            && downloads.discard_if_damaged(&row.info_hash).await
        {
            return;
        }
        if !self.quarantine.add(candidate.culprit(plan)) {
            return;
        }
        let culprit = match candidate {
            Candidate::Store(path) => path.display().to_string(),
            Candidate::Swarm(row) => format!("the payload {}", row.info_hash),
            Candidate::Upstream(upstream) => upstream.url().to_string(),
        };
        let store_path = &plan.store_path;
        self.counters.error(format!(
            "{culprit} does not have the NAR of {store_path} as its narinfo says: it is not asked for that for ten minutes"
        ));
    }
}

impl Plan {
    /// What an upstream is asked for.
    pub fn wanted(&self, means: &Means) -> WantedNar {
        let row = self
            .candidates
            .iter()
            .find_map(|candidate| match candidate {
                Candidate::Swarm(row) if !means.quarantine.has(&candidate.culprit(self)) => {
                    Some(row)
                }
                _ => None,
            });
        WantedNar {
            hash_part: self.store_path.hash_part(),
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            row: row.cloned(),
        }
    }
}

impl Candidate {
    pub fn source(&self) -> Source {
        match self {
            Self::Store(_) => Source::Store,
            Self::Swarm(_) => Source::Swarm,
            Self::Upstream(_) => Source::Upstream,
        }
    }

    /// Whether it is worth bringing in while another one still works.
    pub fn is_promising(&self) -> bool {
        match self {
            Self::Upstream(upstream) => upstream.state() == BreakerState::Closed,
            Self::Swarm(_) => true,
            Self::Store(_) => false,
        }
    }

    /// What goes into quarantine when this one lies about the plan's NAR.
    pub fn culprit(&self, plan: &Plan) -> Culprit {
        match self {
            Self::Store(_) => Culprit::StorePath(plan.store_path.hash_part()),
            Self::Swarm(row) => Culprit::payload(row),
            Self::Upstream(upstream) => {
                Culprit::Upstream(upstream.url().to_string(), plan.nar_hash)
            }
        }
    }

    /// The NAR; nothing happens before the first byte is asked of the stream.
    pub fn open(&self, plan: &Plan, means: &Means, position: Position) -> SourceStream {
        let (candidate, means) = (self.clone(), means.clone());
        let wanted = plan.wanted(&means);
        let open = async move {
            match candidate {
                Self::Store(path) => Ok(store_source::open(path, means.buffers)),
                Self::Swarm(row) => {
                    let downloads = means.downloads.ok_or(SourceError::Absent)?;
                    payload_source::open(&downloads, &row, position).await
                }
                Self::Upstream(upstream) => {
                    upstream_source::open(&upstream, wanted, &means, position).await
                }
            }
        };
        stream::once(open).try_flatten().boxed()
    }
}
