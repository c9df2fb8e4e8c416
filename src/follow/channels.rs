//! All followed channels together: they make up the catalog, and may become others while the program runs.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{Catalog, Offers, Release};
use crate::manifest::Header;
use crate::runtime::Counters;
use crate::swarm::Swarm;
use crate::torrent::InfoHash;

use super::channel::{ChannelOptions, ChannelStatus, FollowError, Step};
use super::followed::Followed;

/// A release of a big channel comes every few hours at most; asking is one small request.
const REMOTE_INTERVAL: Duration = Duration::from_secs(300);
/// After a failure; doubled each time. Peers and networks mostly come a moment after the agent.
const FIRST_RETRY: Duration = Duration::from_secs(3);
/// While a pointer names a release that could not be fetched: whoever brought it has it, or knows somebody.
const LAGGING_RETRY: Duration = Duration::from_secs(15);
/// Trackers of one header that are announced to: each is asked every half hour, for as long as the release is the newest.
const MAX_HEADER_TRACKERS: usize = 8;
/// A directory costs one read.
const LOCAL_INTERVAL: Duration = Duration::from_secs(5);

pub struct Channels {
    /// In the order of the configuration.
    followed: RwLock<Arc<[Arc<Followed>]>>,
    /// Held while what the channels have is made the catalog.
    publishing: Mutex<()>,
    /// Told when the headers name other trackers than before.
    other_trackers: Notify,
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
            publishing: Mutex::default(),
            other_trackers: Notify::new(),
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
            self.refresh(followed, Step::Source).await;
        }
    }

    /// What is kept of the one followed channel of this name, newest first, if its release files are kept as well. The
    /// keys of two channels of one name would be mixed up.
    pub fn releases_with_files(&self, name: &str) -> Vec<Release> {
        let followed = self.followed();
        let named = followed.iter().map(|f| (f, f.options()));
        let mut named = named.filter(|(_, options)| options.name.as_str() == name);
        match (named.next(), named.next()) {
            (Some((followed, options)), None) if options.keep_files => followed.releases(),
            _ => vec![],
        }
    }

    /// Follows all channels until the program stops.
    pub fn follow(self: &Arc<Self>, tasks: &TaskTracker) {
        let all = self.followed();
        all.iter().for_each(|f| self.follow_one(f.clone(), tasks));
        let channels = self.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = channels.stop.cancelled() => {}
                () = channels.announce_anew() => {}
            }
        });
    }

    /// Announces again whenever the headers name other trackers.
    async fn announce_anew(&self) {
        loop {
            self.other_trackers.notified().await;
            if let Err(error) = self.swarm.announce(&self.topics()).await {
                self.counters.error(error.to_string());
            }
        }
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
                    let opened = Followed::open(options, &self.state, &self.swarm, &self.stop);
                    let opened = Arc::new(opened.inspect_err(|_| self.unfollow_of(&new))?);
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

    /// These are not followed after all.
    fn unfollow_of(&self, new: &[Arc<Followed>]) {
        let topics = self.topics();
        let others = new.iter().map(|followed| followed.topic());
        others
            .filter(|topic| !topics.contains(topic))
            .for_each(|topic| self.swarm.pointers().unfollow(&topic));
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
        let mut pointers = self.swarm.pointers().subscribe();
        let mut failures = 0;
        loop {
            // What comes from here on is looked at in the next round.
            pointers.mark_unchanged();
            self.refresh(followed, Step::Pointer).await;
            self.refresh(followed, Step::Source).await;
            let good = self.refresh(followed, Step::Files).await;
            // One that has just begun has nothing to complain of, and nothing to be content with.
            let good = good && followed.status().release.is_some();
            failures = if good { 0 } else { failures + 1 };
            let retry = match failures {
                0 => REMOTE_INTERVAL,
                _ => FIRST_RETRY * 2u32.saturating_pow(failures - 1),
            };
            let lags = followed.lags().await;
            let longest = match lags {
                _ if followed.is_local() => LOCAL_INTERVAL,
                true => LAGGING_RETRY,
                false => REMOTE_INTERVAL,
            };
            let pause = tokio::time::sleep(retry.min(longest));
            tokio::pin!(pause);
            let mut peers = self.swarm.new_peers();
            loop {
                tokio::select! {
                    () = &mut pause => break,
                    // Whoever has just been found may have what nobody else had.
                    _ = peers.changed(), if lags => break,
                    changed = pointers.changed() => {
                        if changed.is_err() || followed.lags().await {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Returns whether nothing is wrong with it now.
    async fn refresh(&self, followed: &Followed, step: Step) -> bool {
        let name = &followed.options().name;
        let refreshed = followed.refresh(step, |refreshed| {
            match &refreshed.failed {
                Some((error, true)) => tracing::warn!("channel {name}: {error}"),
                Some((error, false)) => tracing::debug!(channel = %name, error, "no news"),
                None => {}
            }
            if refreshed.news {
                self.publish_catalog();
            }
        });
        refreshed.await.failed.is_none()
    }

    /// The kept releases are the catalog from now on, and what their headers and the links name is named.
    fn publish_catalog(&self) {
        // Whoever read first writes first.
        let _publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let releases: Vec<Vec<Release>> = self.followed().iter().map(|f| f.releases()).collect();
        let topics = self.topics().into_iter();
        self.swarm.set_topics(topics.zip(releases.iter().cloned()));
        // The newest of each channel before the older ones of any.
        let depth = releases.iter().map(Vec::len).max().unwrap_or(0);
        let ordered = (0..depth).flat_map(|i| releases.iter().filter_map(move |kept| kept.get(i)));
        let ordered: Vec<Release> = ordered
            .filter(|r| self.is_for_this_store(r))
            .cloned()
            .collect();
        let followed = self.followed();
        let linked = followed.iter().flat_map(|f| f.options().source.peers());
        let seedboxes = ordered.iter().flat_map(|r| &r.header().seedboxes);
        self.swarm
            .set_seedboxes(&linked.chain(seedboxes).copied().collect::<Vec<_>>());
        let newest = || releases.iter().filter_map(|kept| kept.first());
        let trackers = newest().flat_map(|release| {
            let trackers = release.header().trackers.iter().take(MAX_HEADER_TRACKERS);
            trackers.filter_map(|tracker| tracker.as_str().parse().ok())
        });
        let bootstrap = newest().flat_map(|release| release.header().bootstrap.iter().copied());
        if self
            .swarm
            .set_named(trackers.collect(), bootstrap.collect())
        {
            self.other_trackers.notify_one();
        }
        self.swarm.set_files(
            ordered
                .iter()
                .flat_map(Release::plain_files)
                .cloned()
                .collect(),
        );
        self.offers.set_catalog(Catalog::new(ordered));
        let complete = releases.iter().all(|kept| !kept.is_empty());
        self.offers.set_complete(complete);
    }

    /// Paths of another store dir are no use here, and Nix would leave an agent that speaks of two.
    fn is_for_this_store(&self, release: &Release) -> bool {
        let Header {
            channel,
            store_dir,
            release,
            ..
        } = release.header();
        let store = self.offers.store();
        let ours = store.is_none_or(|store| store.store_dir() == store_dir);
        if !ours {
            self.counters.error(format!(
                "channel {channel}: {release} is left out: its paths are in {store_dir}, not in this machine's store"
            ));
        }
        ours
    }

    fn followed(&self) -> Arc<[Arc<Followed>]> {
        let followed = self.followed.read();
        followed.unwrap_or_else(PoisonError::into_inner).clone()
    }
}
