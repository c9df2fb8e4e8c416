//! What came from where and what was given, since the start; written everywhere, read by `status`.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::accounting::Accounting;
use super::newest::Newest;

/// Where the bytes of a NAR came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Store,
    Swarm,
    Upstream,
}

impl Source {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Swarm => "swarm",
            Self::Upstream => "upstream",
        }
    }
}

#[derive(Default)]
pub struct Counters {
    store: AtomicU64,
    swarm: AtomicU64,
    upstream: AtomicU64,
    uploaded: AtomicU64,
    wasted: AtomicU64,
    refused_404: AtomicU64,
    refused: Newest,
    errors: Newest,
    accounting: Accounting,
}

/// A reading of the counters. NAR bytes for the three sources, payload bytes for `uploaded` and `wasted`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub store: u64,
    pub swarm: u64,
    pub upstream: u64,
    pub uploaded: u64,
    pub wasted: u64,
    pub refused_404: u64,
    pub refused: Vec<String>,
    pub errors: Vec<String>,
}

impl Counters {
    /// The same, kept per day and channel in `accounting`.
    pub fn keeping(accounting: Accounting) -> Self {
        Self {
            accounting,
            ..Self::default()
        }
    }

    pub fn accounting(&self) -> &Accounting {
        &self.accounting
    }

    /// `channel` is "" for what no channel lists.
    pub fn served(&self, channel: &str, source: Source, bytes: u64) {
        self.accounting.served(channel, source, bytes);
        let counter = match source {
            Source::Store => &self.store,
            Source::Swarm => &self.swarm,
            Source::Upstream => &self.upstream,
        };
        counter.fetch_add(bytes, Relaxed);
    }

    pub fn uploaded(&self, channel: &str, bytes: u64) {
        self.accounting.uploaded(channel, bytes);
        self.uploaded.fetch_add(bytes, Relaxed);
    }

    pub fn wasted(&self, bytes: u64) {
        self.wasted.fetch_add(bytes, Relaxed);
    }

    /// A narinfo was answered 404 only because an upstream could not be asked, or a NAR because all who should have it
    /// failed: Nix now builds from source.
    pub fn refused(&self, hash_part: String) {
        self.refused_404.fetch_add(1, Relaxed);
        self.refused.add(hash_part);
    }

    /// Something that a person should see; also logged, but for what goes on and on.
    pub fn error(&self, message: String) {
        if self.errors.add(message.clone()) {
            tracing::warn!("{message}");
        }
    }

    pub fn totals(&self) -> Totals {
        Totals {
            store: self.store.load(Relaxed),
            swarm: self.swarm.load(Relaxed),
            upstream: self.upstream.load(Relaxed),
            uploaded: self.uploaded.load(Relaxed),
            wasted: self.wasted.load(Relaxed),
            refused_404: self.refused_404.load(Relaxed),
            refused: self.refused.list(),
            errors: self.errors.list(),
        }
    }
}
