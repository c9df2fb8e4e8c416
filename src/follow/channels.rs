//! All followed channels together: they make up the catalog, and are asked for news in turn.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use crate::catalog::{Catalog, Offers, Release};
use crate::runtime::Counters;
use crate::swarm::Swarm;
use crate::torrent::InfoHash;

use super::channel::{Channel, ChannelOptions, ChannelStatus, FollowError};
use super::manifest_source::ManifestSource;

/// A release of a big channel comes every few hours at most; asking is one small request.
const REMOTE_INTERVAL: Duration = Duration::from_secs(300);
/// After a failure; doubled each time. Peers and networks mostly come a moment after the agent.
const FIRST_RETRY: Duration = Duration::from_secs(3);
/// A directory costs one read.
const LOCAL_INTERVAL: Duration = Duration::from_secs(5);

pub struct Channels {
    /// Refreshing takes its time; `status` must not wait for it.
    channels: Vec<Mutex<Channel>>,
    statuses: RwLock<Vec<ChannelStatus>>,
    releases: RwLock<Vec<Vec<Release>>>,
    topics: Vec<InfoHash>,
    offers: Arc<Offers>,
    swarm: Arc<Swarm>,
    counters: Arc<Counters>,
}

impl Channels {
    /// Reads what earlier runs kept; the catalog is filled when this returns.
    pub fn open(
        options: &[ChannelOptions],
        state: &Path,
        offers: Arc<Offers>,
        swarm: Arc<Swarm>,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, FollowError> {
        let mut channels = Vec::with_capacity(options.len());
        for option in options {
            if let ManifestSource::Magnet { peers, .. } = &option.source {
                swarm.add_peers(peers.iter().copied());
            }
            channels.push(Channel::open(option, state, &swarm)?);
        }
        let statuses = RwLock::new(
            channels
                .iter()
                .map(|channel| channel.status(now()))
                .collect(),
        );
        let releases = RwLock::new(
            channels
                .iter()
                .map(|channel| channel.releases().to_vec())
                .collect(),
        );
        let topics = options
            .iter()
            .map(|option| option.name.topic(&option.key.bytes()))
            .collect();
        let channels = channels.into_iter().map(Mutex::new).collect();
        let opened = Arc::new(Self {
            channels,
            statuses,
            releases,
            topics,
            offers,
            swarm,
            counters,
        });
        opened.publish_catalog();
        Ok(opened)
    }

    /// Where the agents of each channel meet.
    pub fn topics(&self) -> &[InfoHash] {
        &self.topics
    }

    pub fn statuses(&self) -> Vec<ChannelStatus> {
        self.statuses
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Reads the channels whose manifest lies in a directory of this machine.
    pub async fn refresh_local(&self) {
        for i in 0..self.channels.len() {
            if self.channels[i].lock().await.is_local() {
                self.refresh(i).await;
            }
        }
    }

    /// Follows all channels until `stop`.
    pub async fn follow(self: Arc<Self>, stop: CancellationToken) {
        let following = (0..self.channels.len()).map(|i| self.follow_one(i));
        tokio::select! {
            () = stop.cancelled() => {}
            _ = futures_util::future::join_all(following) => {}
        }
    }

    async fn follow_one(&self, i: usize) {
        let local = self.channels[i].lock().await.is_local();
        let mut failures = 0;
        loop {
            let pause = match self.refresh(i).await {
                _ if local => LOCAL_INTERVAL,
                true => REMOTE_INTERVAL,
                false => (FIRST_RETRY * 2u32.saturating_pow(failures)).min(REMOTE_INTERVAL),
            };
            failures = if pause < REMOTE_INTERVAL {
                failures + 1
            } else {
                0
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Returns whether the source answered with something good.
    async fn refresh(&self, i: usize) -> bool {
        let mut channel = self.channels[i].lock().await;
        let result = channel.refresh().await;
        let status = channel.status(now());
        if let Ok(true) = result {
            self.releases
                .write()
                .unwrap_or_else(PoisonError::into_inner)[i] = channel.releases().to_vec();
        }
        drop(channel);
        if let Err(error) = &result {
            let known = self.statuses.read().unwrap_or_else(PoisonError::into_inner)[i]
                .last_error
                .clone();
            // Told before it stands in the status, so that whoever sees it there finds it among the errors.
            if known == status.last_error {
                tracing::debug!(channel = status.name, %error, "no news");
            } else {
                self.counters
                    .error(format!("channel {}: {error}", status.name));
            }
        }
        // And a release is served before it is told of.
        if let Ok(true) = result {
            self.publish_catalog();
        }
        self.statuses
            .write()
            .unwrap_or_else(PoisonError::into_inner)[i] = status;
        result.is_ok()
    }

    fn publish_catalog(&self) {
        let releases = self
            .releases
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        // The newest of each channel before the older ones of any.
        let depth = releases.iter().map(Vec::len).max().unwrap_or(0);
        let ordered: Vec<Release> = (0..depth)
            .flat_map(|i| releases.iter().filter_map(move |kept| kept.get(i)).cloned())
            .collect();
        for release in &ordered {
            self.swarm
                .add_peers(release.header().seedboxes.iter().copied());
        }
        self.swarm.set_files(
            ordered
                .iter()
                .flat_map(Release::plain_files)
                .cloned()
                .collect(),
        );
        self.offers.set_catalog(Catalog::new(ordered));
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs())
}
