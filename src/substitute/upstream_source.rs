//! The NAR as an upstream has it: out of the fetch that everybody shares, or, where nothing can wait, from its start.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt};
use tokio_util::io::ReaderStream;

use crate::swarm::Spool;
use crate::upstream::Upstream;

use super::plan::Means;
use super::source::{Chunk, Position, SourceError, SourceStream};
use super::upstream_fetch::{self, Opened, UpstreamFetch, WantedNar};

/// Bytes per item of the stream.
const CHUNK: usize = 256 * 1024;

pub async fn open(
    upstream: &Arc<Upstream>,
    wanted: WantedNar,
    means: &Means,
    position: Position,
) -> Result<SourceStream, SourceError> {
    let fetch = means.fetches.join(upstream, &wanted);
    match fetch.spool().await? {
        Some(spool) => Ok(shared(fetch, spool, position)),
        None => direct(upstream, wanted, means, position).await,
    }
}

fn shared(fetch: Arc<UpstreamFetch>, spool: Arc<Spool>, position: Position) -> SourceStream {
    let reader = Reader {
        progress: spool.progress(),
        fetch,
        spool,
        position,
        at: 0,
        taken: 0,
    };
    stream::unfold(Some(reader), |reader| async {
        let mut reader = reader?;
        match reader.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(reader))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}

struct Reader {
    fetch: Arc<UpstreamFetch>,
    spool: Arc<Spool>,
    progress: tokio::sync::watch::Receiver<crate::swarm::SpoolProgress>,
    position: Position,
    at: u64,
    taken: u64,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Chunk>, SourceError> {
        // What another source gives meanwhile need not be read here.
        loop {
            let wanted = self.at.max(self.position.get());
            let progress = *self.progress.borrow_and_update();
            if progress.written > wanted {
                self.at = wanted;
                break;
            }
            if progress.ended {
                return match self.spool.is_whole() {
                    true => Ok(None),
                    false => Err(self.fetch.failure()),
                };
            }
            let changed = self.progress.changed().await;
            changed.map_err(|_| self.fetch.failure())?;
        }
        let read = self.spool.read(self.at, CHUNK).await;
        let bytes = read.map_err(SourceError::Spool)?;
        let start = self.at;
        self.at += bytes.len() as u64;
        self.taken += bytes.len() as u64;
        self.fetch.used(self.taken);
        Ok(Some(Chunk { start, bytes }))
    }
}

async fn direct(
    upstream: &Arc<Upstream>,
    wanted: WantedNar,
    means: &Means,
    position: Position,
) -> Result<SourceStream, SourceError> {
    let Opened { nar, .. } = upstream_fetch::open(upstream, &means.narinfos, &wanted).await?;
    let counters = means.counters.clone();
    let mut at = 0;
    let chunks = ReaderStream::with_capacity(nar, CHUNK).map(move |read| {
        let bytes = read.map_err(SourceError::UpstreamBody)?;
        let start = at;
        at += bytes.len() as u64;
        let there_already = position.get().clamp(start, at) - start;
        counters.wasted(there_already);
        Ok(Chunk { start, bytes })
    });
    Ok(chunks.boxed())
}
