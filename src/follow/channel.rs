//! One followed channel: its newest verified manifest, and how the last attempt to get a newer one went.

use std::path::Path;
use std::sync::Arc;

use thiserror::Error;

use crate::catalog::{Release, Shelf, ShelfError};
use crate::manifest::{ChannelName, Freshness, Layer, LayerError, SignedManifest, VerifyError};
use crate::nix::PublicKey;
use crate::swarm::Swarm;

use super::manifest_source::{ManifestReader, ManifestSource, ManifestSourceError};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    pub name: ChannelName,
    pub key: PublicKey,
    pub source: ManifestSource,
    pub keep_releases: usize,
}

#[derive(Debug, Error)]
pub enum FollowError {
    #[error(transparent)]
    Source(#[from] ManifestSourceError),
    #[error("the manifest is refused: {0}")]
    Verify(#[from] VerifyError),
    #[error("layer {number} is refused: {source}")]
    Layer { number: u32, source: LayerError },
    #[error(transparent)]
    Shelf(#[from] ShelfError),
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

/// A channel as `status` shows it.
#[derive(Debug, Clone)]
pub struct ChannelStatus {
    pub name: String,
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
    shelf: Shelf,
    reader: ManifestReader,
    /// Newest first.
    releases: Vec<Release>,
    last_error: Option<String>,
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
        let reader = ManifestReader::new(&options.source, swarm.downloads())?;
        let releases = shelf.load()?;
        let (name, key) = (&options.name, options.key.bytes());
        let minimum = shelf.minimum_sequence()?;
        swarm.pointers().follow(name, &key, minimum);
        Ok(Self {
            shelf,
            reader,
            releases,
            last_error: None,
        })
    }

    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Asks the source. Returns whether there is something new; whatever goes wrong, the last good catalog stays.
    pub async fn refresh(&mut self) -> Result<bool, FollowError> {
        let result = self.try_refresh().await;
        self.last_error = result.as_ref().err().map(ToString::to_string);
        result
    }

    async fn try_refresh(&mut self) -> Result<bool, FollowError> {
        let bytes = self.reader.manifest().await?;
        if self
            .releases
            .first()
            .is_some_and(|newest| newest.manifest().encoded() == &bytes)
        {
            return Ok(false);
        }
        let minimum = self.shelf.minimum_sequence()?;
        let keys = std::slice::from_ref(self.shelf.key());
        let manifest =
            SignedManifest::parse(&bytes)?.verify(self.shelf.channel(), keys, minimum)?;
        let header = manifest.header();
        let mut layers = Vec::with_capacity(header.layers.len());
        for entry in &header.layers {
            let number = entry.number;
            let refused = |source| FollowError::Layer { number, source };
            let layer = match self.shelf.layer(entry) {
                Some(layer) => layer,
                None => {
                    let bytes = self.reader.layer(entry).await?;
                    let layer = Layer::parse(bytes.clone(), entry).map_err(refused)?;
                    self.shelf.put_layer(entry, &bytes)?;
                    Arc::new(layer)
                }
            };
            layer.check_references(header).map_err(refused)?;
            layers.push(layer);
        }
        tracing::info!(
            channel = %header.channel, release = header.release, sequence = header.sequence,
            "a new release is in the catalog"
        );
        self.shelf.put(&manifest)?;
        // Reading back shares the layers of older releases and drops what is kept no longer.
        self.releases = self.shelf.load()?;
        Ok(true)
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
            key: self.shelf.key().to_string(),
            release: header.map(|header| header.release.clone()),
            sequence: header.map_or(0, |header| header.sequence),
            created: header.map_or(0, |header| header.created),
            expires: header.map_or(0, |header| header.expires),
            state,
            paths: newest.map_or(0, Release::paths),
            last_error: self.last_error.clone(),
        }
    }
}
