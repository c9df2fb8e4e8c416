//! One source on its way: its stream, how far it has come, and what lies ready beyond the bytes that Nix has.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::StreamExt;

use crate::runtime::Source;

use super::source::{SourceError, SourceStream};

pub struct Lane {
    /// Which of the candidates it is.
    pub candidate: usize,
    pub source: Source,
    pub started: Instant,
    stream: SourceStream,
    /// NAR bytes that the stream has brought.
    at: u64,
    /// Of these, bytes that were there already.
    skipped: u64,
}

impl Lane {
    pub fn new(candidate: usize, source: Source, stream: SourceStream) -> Self {
        Self {
            candidate,
            source,
            started: Instant::now(),
            stream,
            at: 0,
            skipped: 0,
        }
    }

    /// The next bytes at `position`. Cancel safe: what is skipped stays skipped. `Ok(None)` is the end of the stream.
    pub async fn advance(&mut self, position: u64) -> Result<Option<Bytes>, SourceError> {
        while let Some(mut chunk) = self.stream.next().await.transpose()? {
            let before = position.saturating_sub(self.at).min(chunk.len() as u64);
            self.at += chunk.len() as u64;
            self.skipped += before;
            let _ = chunk.split_to(before as usize);
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
        }
        Ok(None)
    }

    pub fn at(&self) -> u64 {
        self.at
    }

    /// Bytes that were fetched although they were there already.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }
}
