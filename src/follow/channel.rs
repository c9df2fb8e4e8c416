//! One followed channel: its newest verified manifest, and how the last attempt to get a newer one went.
//!
//! News come from two sides: the configured source is asked, and a pointer that somebody brought is followed into the
//! swarm. Whatever goes wrong on either, the last good catalog stays.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use crate::catalog::{Release, Shelf, ShelfError};
use crate::manifest::{ChannelName, Freshness, LayerError, ReleaseFile, VerifyError};
use crate::nix::PublicKey;
use crate::swarm::{Downloads, Pointers, Swarm};
use crate::torrent::InfoHash;
use crate::upstream::UpstreamError;

use super::acceptance;
use super::manifest_reader::{ManifestReader, ReadError};
use super::manifest_source::ManifestSource;

/// Peers bring the pointer within a second, the DHT within ten: until then its absence is nothing to tell anybody.
const POINTER_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    pub name: ChannelName,
    pub key: PublicKey,
    pub source: ManifestSource,
    pub keep_releases: usize,
    /// Whether the release files are fetched and kept, to serve them.
    pub keep_files: bool,
}

#[derive(Debug, Error)]
pub enum FollowError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Source(#[from] UpstreamError),
    #[error("the manifest is refused: {0}")]
    Verify(#[from] VerifyError),
    #[error("the pointer names sequence {pointed}, but the manifest there has {found}")]
    Pointed { pointed: u64, found: u64 },
    #[error("layer {number} is refused: {source}")]
    Layer { number: u32, source: LayerError },
    #[error(
        "no release is known yet: nobody has brought the channel's pointer. Is one of its peers reachable, or the DHT?"
    )]
    NoPointer,
    #[error("release file {name}: {source}")]
    File { name: String, source: ReadError },
    #[error(transparent)]
    Shelf(#[from] ShelfError),
    /// Something else has come.
    #[error(transparent)]
    Partly(Box<FollowError>),
    #[error("the work was stopped")]
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    Ok,
    /// Expired: still used, because a dead publisher must not take packages away.
    Stale,
    /// No manifest yet.
    None,
}

impl ChannelState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Stale => "stale",
            Self::None => "none",
        }
    }
}

/// What to do for a channel, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Follow the pointer, whoever brought it.
    Pointer,
    /// Ask the configured source.
    Source,
    /// Fetch the release files that are to be kept.
    Files,
}

/// A channel as `status` shows it.
#[derive(Debug, Clone)]
pub struct ChannelStatus {
    pub name: String,
    pub topic: InfoHash,
    pub key: String,
    pub release: Option<String>,
    pub sequence: u64,
    pub created: u64,
    pub expires: u64,
    pub state: ChannelState,
    pub paths: u64,
    pub last_error: Option<String>,
}

pub struct Channel {
    shelf: Arc<Shelf>,
    topic: InfoHash,
    reader: Option<ManifestReader>,
    keep_files: bool,
    pointers: Arc<Pointers>,
    downloads: Arc<Downloads>,
    opened: Instant,
    /// Newest first.
    releases: Vec<Release>,
    /// How the last try of each step failed.
    errors: [Option<String>; 3],
}

impl Channel {
    /// Opens what earlier runs kept.
    pub fn open(
        options: &ChannelOptions,
        state: &Path,
        swarm: &Swarm,
    ) -> Result<Self, FollowError> {
        let shelf = Shelf::open(
            state,
            options.name.clone(),
            options.key.clone(),
            options.keep_releases,
        )?;
        let releases = shelf.load(&[])?;
        let (name, key) = (&options.name, options.key.bytes());
        // One that cannot be read is told by every refresh; what is here is served.
        let newest = releases.first();
        let newest = newest.map_or(0, |release: &Release| release.header().sequence);
        let minimum = shelf.minimum_sequence().unwrap_or(newest);
        let reader = ManifestReader::new(&options.source, swarm.downloads())?;
        // Nothing fails after this: what is not followed after all would be announced.
        swarm.pointers().follow(name, &key, minimum);
        let channel = Self {
            shelf: Arc::new(shelf),
            topic: name.topic(&key),
            reader,
            keep_files: options.keep_files,
            pointers: swarm.pointers().clone(),
            downloads: swarm.downloads().clone(),
            opened: Instant::now(),
            releases,
            errors: Default::default(),
        };
        channel.tell_arrival();
        Ok(channel)
    }

    /// The pointer to the newest release that is here is passed on from now on.
    fn tell_arrival(&self) {
        if let Some(newest) = self.releases.first()
            && let Some(manifest) = newest.info_hash()
        {
            self.pointers
                .arrived(&self.topic, self.sequence(), manifest);
        }
    }

    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Whether a pointer names a release that is not here yet.
    pub fn lags(&self) -> bool {
        self.pointed() > self.sequence()
    }

    /// Returns whether there is something new.
    pub async fn refresh(&mut self, step: Step) -> bool {
        let result = match (self.shelf.minimum_sequence(), step) {
            (Err(error), _) => Err(error.into()),
            (Ok(_), Step::Pointer) => self.follow_pointer().await,
            (Ok(_), Step::Source) => self.ask_source().await,
            (Ok(_), Step::Files) => self.try_fetch_files().await,
        };
        // Not in there: what is on the shelf counts, whatever that was raced with.
        let (news, error) = match result {
            Ok(news) => (news, None),
            Err(error) => (matches!(error, FollowError::Partly(_)), Some(error)),
        };
        let unread = match news {
            true => self.read_back().await.err(),
            false => None,
        };
        let news = news && unread.is_none();
        self.errors[step as usize] = unread.or(error).map(|error| error.to_string());
        news
    }

    /// The sequence of the newest release; 0 for none.
    fn sequence(&self) -> u64 {
        let newest = self.releases.first();
        newest.map_or(0, |release| release.header().sequence)
    }

    /// The sequence of the newest pointer; 0 for none.
    fn pointed(&self) -> u64 {
        let known = self.pointers.beyond(&self.topic, 0);
        known.first().map_or(0, |pointer| pointer.sequence())
    }

    /// Gets the newest release that can be had. The newest pointer may lead to nothing: then the next one is tried.
    async fn follow_pointer(&mut self) -> Result<bool, FollowError> {
        'newest: loop {
            let pointers = self.pointers.beyond(&self.topic, self.sequence());
            let newest = pointers.first().map_or(0, |newest| newest.sequence());
            let mut failed = None;
            for pointer in &pointers {
                let reader = ManifestReader::swarm(pointer.manifest(), self.downloads.clone());
                let newer = newer_pointer(self.pointers.clone(), self.topic, newest);
                let read = async {
                    let bytes = reader.manifest().await?;
                    self.accept(&reader, bytes, Some(pointer.sequence())).await
                };
                tokio::select! {
                    read = read => match read {
                        Ok(news) => return Ok(news),
                        Err(error) => failed = failed.or(Some(error)),
                    },
                    // Whoever is slow to give an old release does not keep us from the new one.
                    () = newer => continue 'newest,
                }
            }
            return match failed {
                Some(error) => Err(error),
                None if self.lacks_pointer() => Err(FollowError::NoPointer),
                None => Ok(false),
            };
        }
    }

    /// Nothing else can bring a release, and it has had its time.
    fn lacks_pointer(&self) -> bool {
        let nothing = self.reader.is_none() && self.releases.is_empty();
        nothing && self.opened.elapsed() >= POINTER_PATIENCE
    }

    async fn ask_source(&mut self) -> Result<bool, FollowError> {
        let Some(reader) = self.reader.clone() else {
            return Ok(false);
        };
        // A directory of this machine is read in no time, and the node starts with what it holds.
        if let ManifestReader::Directory(_) = reader {
            return self.read_source(&reader).await;
        }
        let known = self.pointed().max(self.sequence());
        let newer = newer_pointer(self.pointers.clone(), self.topic, known);
        tokio::select! {
            read = self.read_source(&reader) => read,
            () = newer => Ok(false),
        }
    }

    async fn read_source(&mut self, reader: &ManifestReader) -> Result<bool, FollowError> {
        if let ManifestReader::Swarm { manifest, .. } = reader {
            return self.read_magnet(reader, manifest).await;
        }
        let bytes = reader.manifest().await?;
        let known = self.releases.first();
        let news = match known.is_some_and(|newest| newest.manifest().encoded() == &bytes) {
            true => false,
            false => self.accept(reader, bytes, None).await?,
        };
        // Passed on by whoever reads the publisher's directory; looked at only when it can be new.
        if self.pointers.here(&self.topic).is_none()
            && let Ok(bytes) = reader.pointer().await
            && let Err(error) = self.pointers.offer_bytes(&bytes)
        {
            tracing::warn!(channel = %self.shelf.channel(), %error, "the pointer beside the manifest");
        }
        Ok(news)
    }

    /// A magnet link names one manifest for ever: that it is outdated is no news and no fault.
    async fn read_magnet(
        &mut self,
        reader: &ManifestReader,
        manifest: &InfoHash,
    ) -> Result<bool, FollowError> {
        let mut files = self.releases.iter().flat_map(Release::plain_files);
        if files.any(|file| file.info.info_hash() == *manifest) {
            return Ok(false);
        }
        let bytes = reader.manifest().await?;
        match self.accept(reader, bytes, None).await {
            Err(FollowError::Verify(VerifyError::Rollback { .. })) => Ok(false),
            accepted => accepted,
        }
    }

    /// Takes over a manifest that is newer than what is here: then there is something new.
    async fn accept(
        &mut self,
        reader: &ManifestReader,
        bytes: Bytes,
        pointed: Option<u64>,
    ) -> Result<bool, FollowError> {
        acceptance::put_on_shelf(&self.shelf, reader, bytes, pointed).await?;
        Ok(true)
    }

    /// Shares the layers of older releases, and drops what is kept no longer.
    async fn read_back(&mut self) -> Result<(), FollowError> {
        let (shelf, known, before) = (self.shelf.clone(), self.releases.clone(), self.sequence());
        self.releases = acceptance::off_thread(move || shelf.load(&known)).await??;
        if let Some(newest) = self
            .releases
            .first()
            .filter(|r| r.header().sequence > before)
        {
            let header = newest.header();
            tracing::info!(
                channel = %header.channel, release = header.release, sequence = header.sequence,
                "a new release is in the catalog"
            );
            self.tell_arrival();
        }
        Ok(())
    }

    async fn try_fetch_files(&mut self) -> Result<bool, FollowError> {
        let Some(newest) = self.releases.first().filter(|_| self.keep_files) else {
            return Ok(false);
        };
        let files = newest.header().files.iter();
        let missing: Vec<_> = files
            .filter(|file| newest.release_file(&file.name).is_none())
            .cloned()
            .collect();
        let mut came = false;
        let mut failure = None;
        for file in &missing {
            match self.fetch_file(file).await {
                Ok(()) => came = true,
                Err(error) => failure = failure.or(Some(error)),
            }
        }
        match failure {
            Some(error) if came => Err(FollowError::Partly(Box::new(error))),
            Some(error) => Err(error),
            None => Ok(came),
        }
    }

    async fn fetch_file(&self, file: &ReleaseFile) -> Result<(), FollowError> {
        // The source may be at another release by now; the swarm is asked by hash.
        if let Some(reader) = &self.reader
            && let Ok(bytes) = reader.file(file).await
            && self.put_file(file, bytes).await.is_ok()
        {
            return Ok(());
        }
        let reader = ManifestReader::swarm(file.info_hash, self.downloads.clone());
        let failed = |source| FollowError::File {
            name: file.name.clone(),
            source,
        };
        let bytes = reader.file(file).await.map_err(failed)?;
        self.put_file(file, bytes).await
    }

    async fn put_file(&self, file: &ReleaseFile, bytes: Bytes) -> Result<(), FollowError> {
        let (shelf, file) = (self.shelf.clone(), file.clone());
        Ok(acceptance::off_thread(move || shelf.put_file(&file, &bytes)).await??)
    }

    pub fn status(&self, now: u64) -> ChannelStatus {
        let newest = self.releases.first();
        let header = newest.map(Release::header);
        let state = match newest.map(|release| release.manifest().freshness(now)) {
            None => ChannelState::None,
            Some(Freshness::Fresh) => ChannelState::Ok,
            Some(Freshness::Stale) => ChannelState::Stale,
        };
        ChannelStatus {
            name: self.shelf.channel().to_string(),
            topic: self.topic,
            key: self.shelf.key().to_string(),
            release: header.map(|header| header.release.clone()),
            sequence: header.map_or(0, |header| header.sequence),
            created: header.map_or(0, |header| header.created),
            expires: header.map_or(0, |header| header.expires),
            state,
            paths: newest.map_or(0, Release::paths),
            last_error: self.errors.iter().flatten().next().cloned(),
        }
    }
}

/// Until there is a pointer beyond `sequence`.
async fn newer_pointer(pointers: Arc<Pointers>, topic: InfoHash, sequence: u64) {
    let mut news = pointers.subscribe();
    let newer = |_: &u64| !pointers.beyond(&topic, sequence).is_empty();
    if news.wait_for(newer).await.is_err() {
        // Nobody can bring one any more.
        std::future::pending::<()>().await;
    }
}
