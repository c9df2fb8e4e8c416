//! One source on its way: its stream, and how long it has had.

use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures_util::stream::StreamExt;

use crate::runtime::Source;

use super::source::{SourceError, SourceStream};

pub struct Lane {
    /// Which of the candidates it is.
    pub candidate: usize,
    pub source: Source,
    started: Instant,
    stream: SourceStream,
}

impl Lane {
    pub fn new(candidate: usize, source: Source, stream: SourceStream) -> Self {
        Self {
            candidate,
            source,
            started: Instant::now(),
            stream,
        }
    }

    /// The next bytes at `position`; what comes before them is passed over. `Ok(None)` is the end of the stream.
    pub async fn advance(&mut self, position: u64) -> Result<Option<Bytes>, SourceError> {
        while let Some(mut chunk) = self.stream.next().await.transpose()? {
            let before = position.saturating_sub(chunk.start);
            chunk
                .bytes
                .advance(before.min(chunk.bytes.len() as u64) as usize);
            if !chunk.bytes.is_empty() {
                return Ok(Some(chunk.bytes));
            }
        }
        Ok(None)
    }

    pub fn began(&self) -> Instant {
        self.started
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
}
