//! A source of one NAR's raw bytes, and why it may end early.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use thiserror::Error;

use crate::swarm::DownloadError;
use crate::upstream::UpstreamError;

/// Bytes of the NAR and where they start.
pub struct Chunk {
    pub start: u64,
    pub bytes: Bytes,
}

/// In the order of the NAR; what lies before the body's position may be left out.
pub type SourceStream = BoxStream<'static, Result<Chunk, SourceError>>;

/// How far a body has come: a source that is behind need not give what another one gave already.
#[derive(Clone, Default)]
pub struct Position(Arc<AtomicU64>);

impl Position {
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub fn set(&self, position: u64) {
        self.0.store(position, Relaxed);
    }
}

#[derive(Debug, Error)]
pub enum SourceError {
    #[error("the store: {0}")]
    Store(String),
    #[error("the swarm: {0}")]
    Download(#[from] DownloadError),
    #[error("the swarm: nothing new for {0:?}")]
    Stalled(Duration),
    #[error("the swarm: {0}")]
    Payload(String),
    #[error("the swarm: the payload is not one of this NAR: {0}")]
    WrongPayload(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("an upstream: {0}")]
    UpstreamBody(std::io::Error),
    #[error("the cache: {0}")]
    Spool(std::io::Error),
    #[error("it does not have this NAR")]
    Absent,
    #[error("it sent another NAR than the one asked for")]
    WrongNar,
    /// Of a fetch that several wait for.
    #[error(transparent)]
    Shared(Arc<SourceError>),
}

impl SourceError {
    /// Whether the source has something else than it should, as opposed to having nothing now.
    pub fn is_lie(&self) -> bool {
        match self {
            Self::WrongNar | Self::WrongPayload(_) => true,
            Self::Shared(error) => error.is_lie(),
            _ => false,
        }
    }
}

/// A download without a new piece for so long has failed. Nix itself gives up after `stalled-download-timeout` = 300 s;
/// an honest cut well before that lets it retry. (When another source can take over, `experience` brings it in long
/// before this.)
pub const STALL: Duration = Duration::from_secs(30);
