//! All followed channels together: they make up the catalog, and may become others while the program runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, Offers, Release};
use crate::runtime::Counters;
use crate::swarm::Swarm;
use crate::torrent::InfoHash;

use super::channel::{ChannelOptions, ChannelStatus, FollowError};
use super::followed::{Followed, Refreshed};

/// A release of a big channel comes every few hours at most; asking is one small request.
const REMOTE_INTERVAL: Duration = Duration::from_secs(300);
/// After a failure; doubled each time. Peers and networks mostly come a moment after the agent.
const FIRST_RETRY: Duration = Duration::from_secs(3);
/// A directory costs one read.
const LOCAL_INTERVAL: Duration = Duration::from_secs(5);

pub struct Channels {
    /// In the order of the configuration.
    followed: RwLock<Arc<[Arc<Followed>]>>,
    state: PathBuf,
    offers: Arc<Offers>,
    swarm: Arc<Swarm>,
    counters: Arc<Counters>,
    stop: CancellationToken,
}

impl Channels {
    /// Reads what earlier runs kept; the catalog is filled when this returns. `stop` ends following.
    pub fn open(
        options: &[ChannelOptions],
        state: &Path,
        offers: Arc<Offers>,
        swarm: Arc<Swarm>,
        counters: Arc<Counters>,
        stop: CancellationToken,
    ) -> Result<Arc<Self>, FollowError> {
        let opened = Arc::new(Self {
            followed: RwLock::new(Arc::new([])),
            state: state.to_owned(),
            offers,
            swarm,
            counters,
            stop,
        });
        opened.change(options)?;
        Ok(opened)
    }

    /// Where the agents of each channel meet.
    pub fn topics(&self) -> Vec<InfoHash> {
        self.followed().iter().map(|f| f.topic()).collect()
    }

    pub fn statuses(&self) -> Vec<ChannelStatus> {
        self.followed().iter().map(|f| f.status()).collect()
    }

    /// Reads the channels whose manifest lies in a directory of this machine.
    pub async fn refresh_local(&self) {
        for followed in self.followed().iter().filter(|f| f.is_local()) {
            self.refresh(followed).await;
        }
    }

    /// Follows all channels until the program stops.
    pub fn follow(self: &Arc<Self>, tasks: &TaskTracker) {
        let all = self.followed();
        all.iter().for_each(|f| self.follow_one(f.clone(), tasks));
    }

    /// Follows these channels from now on. Nothing changes when one of them cannot be opened.
    pub fn reconfigure(
        self: &Arc<Self>,
        options: &[ChannelOptions],
        tasks: &TaskTracker,
    ) -> Result<(), FollowError> {
        let new = self.change(options)?;
        new.into_iter().for_each(|f| self.follow_one(f, tasks));
        Ok(())
    }

    /// Those that were not followed before.
    fn change(&self, options: &[ChannelOptions]) -> Result<Vec<Arc<Followed>>, FollowError> {
        let before = self.followed();
        let mut new = Vec::new();
        let mut all = Vec::with_capacity(options.len());
        for options in options {
            let known = before.iter().find(|known| known.options() == options);
            all.push(match known {
                Some(known) => known.clone(),
                None => {
                    let opened = Followed::open(options, &self.state, &self.swarm, &self.stop)?;
                    let opened = Arc::new(opened);
                    new.push(opened.clone());
                    opened
                }
            });
        }
        *self
            .followed
            .write()
            .unwrap_or_else(PoisonError::into_inner) = all.into();
        let topics = self.topics();
        for old in before.iter() {
            if !options.contains(old.options()) {
                old.unfollow();
            }
            if !topics.contains(&old.topic()) {
                self.swarm.pointers().unfollow(&old.topic());
            }
        }
        self.publish_catalog();
        Ok(new)
    }

    fn follow_one(self: &Arc<Self>, followed: Arc<Followed>, tasks: &TaskTracker) {
        let channels = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = followed.unfollowed() => {}
                () = channels.keep_fresh(&followed) => {}
            }
        });
    }

    async fn keep_fresh(&self, followed: &Followed) {
        let mut failures = 0;
        loop {
            let pause = match self.refresh(followed).await {
                _ if followed.is_local() => LOCAL_INTERVAL,
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
    async fn refresh(&self, followed: &Followed) -> bool {
        let name = &followed.options().name;
        let refreshed = followed.refresh(|refreshed| match refreshed {
            Refreshed::News => self.publish_catalog(),
            Refreshed::NoNews => {}
            Refreshed::Failed(error, true) => {
                self.counters.error(format!("channel {name}: {error}"))
            }
            Refreshed::Failed(error, false) => tracing::debug!(channel = %name, %error, "no news"),
        });
        !matches!(refreshed.await, Refreshed::Failed(..))
    }

    fn publish_catalog(&self) {
        let releases: Vec<Vec<Release>> = self.followed().iter().map(|f| f.releases()).collect();
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

    fn followed(&self) -> Arc<[Arc<Followed>]> {
        let followed = self.followed.read();
        followed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
