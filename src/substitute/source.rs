//! A source of one NAR's raw bytes from a given offset on, and why it may end early.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use thiserror::Error;

use crate::swarm::DownloadError;
use crate::upstream::UpstreamError;

pub type SourceStream = BoxStream<'static, Result<Bytes, SourceError>>;

#[derive(Debug, Error)]
pub enum SourceError {
    #[error("the store: {0}")]
    Store(String),
    #[error("the swarm: {0}")]
    Download(#[from] DownloadError),
    #[error("the swarm: no new piece for {0:?}")]
    Stalled(Duration),
    #[error("the swarm: {0}")]
    Payload(String),
    #[error("the swarm: the payload is not one of this NAR: {0}")]
    WrongPayload(String),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("an upstream: {0}")]
    UpstreamBody(std::io::Error),
    #[error("it does not have this NAR")]
    Absent,
    #[error("it sent another NAR than the one asked for")]
    WrongNar,
}

impl SourceError {
    /// Whether the source has something else than it should, as opposed to having nothing now.
    pub fn is_lie(&self) -> bool {
        matches!(self, Self::WrongNar | Self::WrongPayload(_))
    }
}

/// A download without a new piece for so long has failed. Nix itself gives up after `stalled-download-timeout` = 300 s;
/// an honest cut well before that lets it retry. (When another source can take over, `experience` brings it in long
/// before this.)
pub const STALL: Duration = Duration::from_secs(90);
