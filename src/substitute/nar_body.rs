//! One NAR on its way to Nix: bytes from the first source that has them, the next one when it fails, at the exact
//! offset where it failed. The last chunk leaves only when the whole NAR has its NarHash.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::catalog::Entry;
use crate::nix::{NarHash, StorePath};
use crate::runtime::{Counters, Source};
use crate::swarm::Downloads;
use crate::torrent::InfoHash;
use crate::upstream::{BreakerState, Upstream};

use super::active::{ActiveGuard, ActiveNars};
use super::narinfos::Narinfos;
use super::quarantine::Quarantine;
use super::source::{Patience, SourceError, SourceStream};
use super::{payload_source, store_source, upstream_source};

/// Chunks that wait for Nix per NAR; a chunk is at most one frame (4 MiB).
const AHEAD: usize = 1;
/// A frame is handed on in slices, so that a slow reader does not hold several.
const SLICE: usize = 256 * 1024;

/// The answer to a request for a NAR; its first bytes are already there.
pub struct NarBody {
    /// NarSize.
    pub size: u64,
    pub bytes: BoxStream<'static, Result<Bytes, SourceError>>,
}

/// A source that may be asked, in the order of preference.
pub enum Candidate {
    Store(PathBuf),
    Swarm(Box<Entry>),
    Upstream(Arc<Upstream>),
}

impl Candidate {
    fn source(&self) -> Source {
        match self {
            Self::Store(_) => Source::Store,
            Self::Swarm(_) => Source::Swarm,
            Self::Upstream(_) => Source::Upstream,
        }
    }

    /// Whether it is worth hurrying towards this one.
    fn is_promising(&self) -> bool {
        match self {
            Self::Upstream(upstream) => upstream.state() == BreakerState::Closed,
            Self::Store(_) | Self::Swarm(_) => true,
        }
    }
}

/// What is asked for and who may have it.
pub struct Plan {
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub candidates: Vec<Candidate>,
}

impl Plan {
    /// The payload that the swarm would be asked for.
    pub fn payload(&self) -> Option<InfoHash> {
        self.candidates
            .iter()
            .find_map(|candidate| match candidate {
                Candidate::Swarm(row) => Some(row.info_hash),
                Candidate::Store(_) | Candidate::Upstream(_) => None,
            })
    }
}

/// What the work on every NAR needs.
#[derive(Clone)]
pub struct Means {
    pub downloads: Option<Arc<Downloads>>,
    pub narinfos: Arc<Narinfos>,
    pub quarantine: Arc<Quarantine>,
    pub counters: Arc<Counters>,
    pub active: Arc<ActiveNars>,
}

/// Starts sending from byte `from` on. `None` when no source has anything to give.
pub async fn start(plan: Plan, from: u64, means: Means) -> Option<NarBody> {
    let size = plan.nar_size;
    let first_source = plan.candidates.first()?.source();
    let active = means
        .active
        .enter(plan.store_path.clone(), size, first_source);
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    tokio::spawn(
        Sending {
            plan,
            from,
            means,
            active,
            sender,
            hasher: Sha256::new(),
            position: 0,
            sent: false,
        }
        .run(),
    );
    let first = receiver.recv().await?.ok()?;
    let rest = stream::unfold(
        receiver,
        |mut receiver: mpsc::Receiver<Result<Bytes, SourceError>>| async move {
            receiver.recv().await.map(|item| (item, receiver))
        },
    );
    Some(NarBody {
        size,
        bytes: stream::once(async { Ok(first) }).chain(rest).boxed(),
    })
}

struct Sending {
    plan: Plan,
    from: u64,
    means: Means,
    active: ActiveGuard,
    sender: mpsc::Sender<Result<Bytes, SourceError>>,
    hasher: Sha256,
    /// How much of the NAR has gone through the hasher.
    position: u64,
    /// Whether Nix has any of it: then a wrong NAR can only be cut off, before that another source can be tried.
    sent: bool,
}

enum Outcome {
    Done,
    /// Nix hung up.
    Abandoned,
    Failed(SourceError),
}

impl Sending {
    async fn run(mut self) {
        let candidates = std::mem::take(&mut self.plan.candidates);
        let mut used: Vec<&Candidate> = Vec::new();
        let mut last_error = SourceError::Absent;
        for (i, candidate) in candidates.iter().enumerate() {
            let more = candidates[i + 1..].iter().any(Candidate::is_promising);
            let patience = if more {
                Patience::Short
            } else {
                Patience::Long
            };
            let before = self.position;
            let outcome = match self.open(candidate, patience).await {
                Ok(stream) => self.pump(stream, candidate.source()).await,
                Err(error) => Outcome::Failed(error),
            };
            if self.position > before {
                used.push(candidate);
            }
            let error = match outcome {
                Outcome::Done | Outcome::Abandoned => return,
                Outcome::Failed(error) => error,
            };
            let (store_path, source) = (&self.plan.store_path, candidate.source().as_str());
            tracing::info!(%store_path, source, at = self.position, %error, "a source failed; the next one goes on");
            if matches!(error, SourceError::WrongNar) {
                self.blame(&used);
                if self.sent {
                    last_error = error;
                    break;
                }
                used.clear();
                self.position = 0;
                self.hasher = Sha256::new();
            }
            last_error = error;
        }
        // The receiver may be gone; then nobody needs to know.
        let _ = self.sender.send(Err(last_error)).await;
    }

    async fn open(
        &self,
        candidate: &Candidate,
        patience: Patience,
    ) -> Result<SourceStream, SourceError> {
        match candidate {
            Candidate::Store(path) => Ok(store_source::open(path.clone())),
            Candidate::Swarm(entry) => match &self.means.downloads {
                Some(downloads) => payload_source::open(downloads, entry, patience).await,
                None => Err(SourceError::Absent),
            },
            Candidate::Upstream(upstream) => {
                let narinfo = self
                    .means
                    .narinfos
                    .from(upstream, &self.plan.store_path.hash_part())
                    .await?;
                upstream_source::open(
                    upstream,
                    &narinfo.ok_or(SourceError::Absent)?,
                    &self.plan.nar_hash,
                )
                .await
            }
        }
    }

    /// Hands on what the source brings beyond what is there already.
    async fn pump(&mut self, mut stream: SourceStream, source: Source) -> Outcome {
        let mut skip = self.position;
        while let Some(item) = stream.next().await {
            let mut chunk = match item {
                Ok(chunk) => chunk,
                Err(error) => return Outcome::Failed(error),
            };
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let _ = chunk.split_to(skipped as usize);
            while !chunk.is_empty() {
                let slice = chunk.split_to(chunk.len().min(SLICE));
                if self.position + slice.len() as u64 > self.plan.nar_size {
                    return Outcome::Failed(SourceError::WrongNar);
                }
                let start = self.position;
                self.hasher.update(&slice);
                self.position += slice.len() as u64;
                let done = self.position == self.plan.nar_size;
                if done && self.hasher.finalize_reset()[..] != self.plan.nar_hash.as_bytes()[..] {
                    return Outcome::Failed(SourceError::WrongNar);
                }
                self.means.counters.served(source, slice.len() as u64);
                self.active.nar.progressed(self.position, source);
                if !self.send(slice, start).await {
                    return Outcome::Abandoned;
                }
                if done {
                    return Outcome::Done;
                }
            }
        }
        Outcome::Failed(SourceError::Absent)
    }

    /// Sends the part of `slice` that lies at or behind `from`. Returns false when Nix is gone.
    async fn send(&mut self, mut slice: Bytes, start: u64) -> bool {
        let before = self.from.saturating_sub(start).min(slice.len() as u64);
        let _ = slice.split_to(before as usize);
        if slice.is_empty() {
            return !self.sender.is_closed();
        }
        self.sent = true;
        self.sender.send(Ok(slice)).await.is_ok()
    }

    /// The bytes of these sources together were not the NAR. Upstreams are not punished for a row: Nix tells the user.
    fn blame(&self, used: &[&Candidate]) {
        let store_path = &self.plan.store_path;
        for candidate in used {
            let culprit = match candidate {
                Candidate::Store(path) => {
                    self.means.quarantine.store_path(store_path.hash_part());
                    path.display().to_string()
                }
                Candidate::Swarm(entry) => {
                    self.means.quarantine.payload(entry.info_hash);
                    if let Some(downloads) = &self.means.downloads {
                        downloads.discard(&entry.info_hash);
                    }
                    format!("the payload {}", entry.info_hash)
                }
                Candidate::Upstream(upstream) => upstream.url().to_string(),
            };
            self.means.counters.error(format!(
                "{culprit} is not the NAR of {store_path}: it is not used any more"
            ));
        }
    }
}
