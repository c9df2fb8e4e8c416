//! One NAR on its way to Nix. Its last chunk leaves only when the whole has its NarHash; what turns out wrong before
//! Nix has a byte of it is replaced by the next source, after that the connection is cut.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use crate::runtime::Source;

use super::active::ActiveGuard;
use super::plan::{Candidate, Means, Plan};
use super::race::Race;
use super::source::SourceError;

/// Chunks that wait for Nix per NAR; a chunk is at most `SLICE` of a frame (4 MiB) that they keep in memory.
const AHEAD: usize = 1;
/// A frame is handed on in slices, so that a slow reader does not hold several.
const SLICE: usize = 256 * 1024;

/// The answer to a request for a NAR; its first bytes are already there.
pub struct NarBody {
    /// NarSize.
    pub size: u64,
    pub bytes: BoxStream<'static, Result<Bytes, SourceError>>,
}

/// Starts sending from byte `from` on. `None` when no source has anything to give.
pub async fn start(plan: Plan, from: u64, means: Means) -> Option<NarBody> {
    let size = plan.nar_size;
    let first_source = plan.candidates.first()?.source();
    let active = means
        .active
        .enter(plan.store_path.clone(), size, first_source);
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    tokio::spawn(async move {
        Sending {
            plan: &plan,
            from,
            means: &means,
            active,
            sender,
            position: 0,
            sent: false,
        }
        .run()
        .await;
    });
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

struct Sending<'a> {
    plan: &'a Plan,
    from: u64,
    means: &'a Means,
    active: ActiveGuard,
    sender: mpsc::Sender<Result<Bytes, SourceError>>,
    /// How much of the NAR has gone through the hasher.
    position: u64,
    /// Whether Nix has any of it.
    sent: bool,
}

impl Sending<'_> {
    async fn run(mut self) {
        let mut race = Race::new(self.plan, self.means);
        let mut hasher = Sha256::new();
        let size = self.plan.nar_size;
        while self.position < size {
            let next = tokio::select! {
                // Nix hung up: nobody needs the rest.
                () = self.sender.closed() => return,
                next = race.next(self.position) => next,
            };
            let (mut chunk, source) = match next {
                Ok(next) => next,
                Err(error) => return self.fail(error).await,
            };
            while !chunk.is_empty() {
                let slice = chunk.split_to(chunk.len().min(SLICE));
                let start = self.position;
                hasher.update(&slice);
                self.position += slice.len() as u64;
                let wrong = self.position > size
                    || (self.position == size
                        && hasher.finalize_reset()[..] != self.plan.nar_hash.as_bytes()[..]);
                if wrong {
                    let used = race.used().collect();
                    self.accuse(used).await;
                    if self.sent {
                        return self.fail(SourceError::WrongNar).await;
                    }
                    race.start_over();
                    self.position = 0;
                    hasher = Sha256::new();
                    break;
                }
                self.active.nar.progressed(self.position, source);
                if !self.send(slice, start, source).await {
                    return;
                }
            }
        }
        let used: Vec<&Candidate> = race.used().collect();
        race.finish();
        if let [Candidate::Store(path)] = used[..] {
            self.means.proven.note(self.plan, path.clone()).await;
        }
    }

    /// The bytes together were not the NAR. When one of the sources was caught already, it is to blame alone.
    async fn accuse(&self, used: Vec<&Candidate>) {
        let caught =
            |candidate: &Candidate| self.means.quarantine.has(&candidate.culprit(self.plan));
        if !used.iter().copied().any(caught) {
            for candidate in used {
                self.means.accuse(candidate, self.plan).await;
            }
        }
    }

    /// Cuts the connection, or makes it a 404 when nothing was sent.
    async fn fail(&self, error: SourceError) {
        let store_path = &self.plan.store_path;
        tracing::info!(%store_path, at = self.position, %error, "nobody has this NAR, or the rest of it");
        // The receiver may be gone; then nobody needs to know.
        let _ = self.sender.send(Err(error)).await;
    }

    /// Sends the part of `slice` that lies at or behind `from`. Returns false when Nix is gone.
    async fn send(&mut self, mut slice: Bytes, start: u64, source: Source) -> bool {
        let before = self.from.saturating_sub(start).min(slice.len() as u64);
        let _ = slice.split_to(before as usize);
        if slice.is_empty() {
            return !self.sender.is_closed();
        }
        self.sent = true;
        let (counters, channel) = (&self.means.counters, &self.plan.channel);
        counters.served(channel, source, slice.len() as u64);
        self.sender.send(Ok(slice)).await.is_ok()
    }
}
