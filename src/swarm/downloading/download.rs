//! One payload on its way: a part file, who writes it, and how long.

use std::path::PathBuf;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::swarm::payloads::{PartFile, Room};

/// Where a payload is.
pub enum Fetch {
    /// Whole, in this file.
    Kept(PathBuf),
    Running(Arc<Download>),
}

impl Fetch {
    /// Whether it comes from an upstream's NAR, and is not whole yet.
    pub fn is_being_filled(&self) -> bool {
        matches!(self, Self::Running(download) if download.is_being_filled())
    }
}

/// Who writes a part file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimant {
    Swarm,
    /// An upstream's NAR, as it comes in.
    Nar,
}

/// A running or finished download. Dropping the last handle of an unfinished one stops it; its part file stays.
pub struct Download {
    part: Arc<PartFile>,
    stop: CancellationToken,
    /// Where its bytes come from an upstream's NAR. It gives way to the swarm: that NAR may have fallen silent.
    filled: Option<CancellationToken>,
}

impl Download {
    pub fn new(part: Arc<PartFile>, stop: CancellationToken, claimant: Claimant) -> Self {
        let filled = (claimant == Claimant::Nar).then(CancellationToken::new);
        Self { part, stop, filled }
    }

    pub fn part(&self) -> &Arc<PartFile> {
        &self.part
    }

    /// Cancelled when it ends or is left by everybody.
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }

    pub fn is_filled(&self) -> bool {
        self.filled.is_some()
    }

    /// Whether it is filled by an upstream's NAR, and not whole yet.
    pub fn is_being_filled(&self) -> bool {
        self.is_filled() && !self.part.is_complete()
    }

    /// The swarm is asked for it.
    pub fn displace(&self) {
        self.filled.iter().for_each(CancellationToken::cancel);
    }

    /// Resolves when the swarm is asked for what an upstream's NAR fills.
    pub async fn displaced(&self) {
        match &self.filled {
            Some(displaced) => displaced.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A part file that nobody else writes, and the room that it takes.
pub struct Claim {
    pub download: Arc<Download>,
    pub room: Room,
}
