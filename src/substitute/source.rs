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
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("an upstream: {0}")]
    UpstreamBody(std::io::Error),
    #[error("it does not have this NAR")]
    Absent,
    #[error("it sent another NAR than the one asked for")]
    WrongNar,
}

/// How long a source may keep Nix waiting for its next bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Another source can take over: Nix should hardly notice.
    Short,
    /// There is no other: wait as long as something may still come.
    Long,
}

/// The usual gap between pieces is well below a second; after this an upstream is the better bet.
const SHORT: Duration = Duration::from_secs(8);
/// Nix itself gives up after `stalled-download-timeout` = 300 s; an honest cut well before that lets it retry.
const LONG: Duration = Duration::from_secs(90);

impl Patience {
    pub fn duration(self) -> Duration {
        match self {
            Self::Short => SHORT,
            Self::Long => LONG,
        }
    }
}
