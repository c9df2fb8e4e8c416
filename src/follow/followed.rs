//! One followed channel as others see it: refreshing takes its time, and neither `status` nor the catalog waits for it.

use std::path::Path;
use std::sync::{PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::catalog::Release;
use crate::swarm::Swarm;
use crate::torrent::InfoHash;

use super::channel::{Channel, ChannelOptions, ChannelStatus, FollowError, Step};
use super::manifest_source::ManifestSource;

pub struct Followed {
    options: ChannelOptions,
    channel: Mutex<Channel>,
    status: RwLock<ChannelStatus>,
    releases: RwLock<Vec<Release>>,
    /// Ends following.
    stop: CancellationToken,
}

/// How it went.
pub struct Refreshed {
    pub news: bool,
    /// What went wrong, and whether it is another failure than last time.
    pub failed: Option<(String, bool)>,
}

impl Followed {
    /// With what earlier runs kept of it; a child of `stop` ends it.
    pub fn open(
        options: &ChannelOptions,
        state: &Path,
        swarm: &Swarm,
        stop: &CancellationToken,
    ) -> Result<Self, FollowError> {
        let channel = Channel::open(options, state, swarm)?;
        Ok(Self {
            options: options.clone(),
            status: RwLock::new(channel.status(now())),
            releases: RwLock::new(channel.releases().to_vec()),
            channel: Mutex::new(channel),
            stop: stop.child_token(),
        })
    }

    pub fn options(&self) -> &ChannelOptions {
        &self.options
    }

    /// Where the agents of this channel meet.
    pub fn topic(&self) -> InfoHash {
        self.options.name.topic(&self.options.key.bytes())
    }

    pub fn status(&self) -> ChannelStatus {
        let status = self.status.read();
        status.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is kept of it, newest first.
    pub fn releases(&self) -> Vec<Release> {
        let releases = self.releases.read();
        releases.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether its manifest lies in a directory of this machine.
    pub fn is_local(&self) -> bool {
        matches!(self.options.source, ManifestSource::Directory(_))
    }

    /// Nothing is asked for it any more.
    pub fn unfollow(&self) {
        self.stop.cancel();
    }

    /// Returns when nothing is to be asked for it any more.
    pub async fn unfollowed(&self) {
        self.stop.cancelled().await;
    }

    /// Whether a pointer names a release that is not here yet.
    pub async fn lags(&self) -> bool {
        self.channel.lock().await.lags()
    }

    /// The status tells of it only after `tell` has: whoever sees a release there gets it served.
    pub async fn refresh(&self, step: Step, tell: impl FnOnce(&Refreshed)) -> Refreshed {
        let mut channel = self.channel.lock().await;
        let news = channel.refresh(step).await;
        let status = channel.status(now());
        if news {
            *self
                .releases
                .write()
                .unwrap_or_else(PoisonError::into_inner) = channel.releases().to_vec();
        }
        drop(channel);
        let known = self.status().last_error;
        let failed = status.last_error.clone();
        let refreshed = Refreshed {
            news,
            failed: failed.map(|error| (error.clone(), known.as_ref() != Some(&error))),
        };
        tell(&refreshed);
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = status;
        refreshed
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
