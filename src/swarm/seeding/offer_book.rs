//! Finds what can be served by info hash.
//!
//! A row is served only while a verified manifest lists it. Its pieces come, in this order, from a running download,
//! from a payload file that is kept, or from the NAR that is installed: then its frames are made again.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::catalog::{InfoDicts, Offers, PayloadCopy, PlainFile, Release};
use crate::manifest::Row;
use crate::payload::FRAME_SIZE;
use crate::torrent::InfoHash;

use super::encoding::Recreation;
use super::offer::{Content, Offer};
use super::workshop::Workshop;
use crate::swarm::gossip::{LayerId, Layers, RowSet};
use crate::swarm::payloads::{PartFile, PayloadDirectory};

/// A summary is so old at most: nobody tells of files that a person puts into `hold` or takes away.
const SUMMARY_AGE: Duration = Duration::from_secs(5);

/// How much is offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfferSummary {
    pub paths: u64,
    pub bytes: u64,
    pub withdrawn: u64,
    /// Bytes of the payload files in `hold`.
    pub held: u64,
}

/// Finds offers by info hash; the only place that knows all their kinds.
pub struct OfferBook {
    offers: Arc<Offers>,
    workshop: Arc<Workshop>,
    payloads: PayloadDirectory,
    /// Payload files that somebody put there, named after the NarHash (a seedbox's `location`).
    hold: Option<PathBuf>,
    running: RwLock<HashMap<InfoHash, Arc<PartFile>>>,
    files: RwLock<HashMap<InfoHash, PlainFile>>,
    counted: Mutex<Option<Counted>>,
}

/// A summary, and what it was counted from.
#[derive(Clone, Copy)]
struct Counted {
    /// Of the offers and of the payloads that are kept.
    version: (u64, u64),
    at: Instant,
    summary: OfferSummary,
}

impl OfferBook {
    pub fn new(
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        payloads: PayloadDirectory,
        hold: Option<PathBuf>,
        recreation: Recreation,
    ) -> io::Result<Self> {
        let workshop = Arc::new(Workshop::new(
            offers.clone(),
            infos,
            payloads.clone(),
            recreation,
        )?);
        Ok(Self {
            offers,
            workshop,
            payloads,
            hold,
            running: RwLock::default(),
            files: RwLock::default(),
            counted: Mutex::default(),
        })
    }

    /// Lets go of what nobody asks for any more, until `stop`.
    pub async fn tidy(self: Arc<Self>, stop: CancellationToken) {
        stop.run_until_cancelled(self.workshop.tidy()).await;
    }

    /// What this machine can serve under this info hash, if anything.
    pub fn find(&self, info_hash: &InfoHash) -> Option<Offer> {
        if let Some(file) = self
            .files
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(info_hash)
            .cloned()
        {
            if self.offers.is_withdrawn(&PayloadCopy::Plain(*info_hash)) {
                return None;
            }
            let (length, piece_length) = (file.info.length, file.info.piece_length);
            return Some(Offer {
                workshop: self.workshop.clone(),
                info_hash: *info_hash,
                channel: "".into(),
                size: length,
                length,
                piece_length,
                content: Content::Plain(file),
            });
        }
        // Not every row that names it is of a path, or has the size, that is here.
        let (catalog, mut content) = (self.offers.catalog(), None);
        let entry = catalog.find_payload(info_hash, |row, ours| {
            content = self.content(row, ours);
            content.is_some()
        })?;
        Some(Offer {
            workshop: self.workshop.clone(),
            info_hash: *info_hash,
            channel: entry.channel.as_str().into(),
            size: entry.nar_size,
            length: entry.payload_length,
            piece_length: entry.piece_length(),
            content: content?,
        })
    }

    /// Where the bytes of this row's payload are.
    fn content(&self, row: &Row<'_>, ours: bool) -> Option<Content> {
        let (info_hash, length) = (row.info_hash(), row.payload_length());
        let running = self
            .running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&info_hash)
            .cloned();
        if let Some(part) = running.filter(|part| part.info().length == length) {
            return Some(Content::Download(part));
        }
        let name = row.payload_name();
        let kept = self.payloads.find(&info_hash);
        let kept = kept.map(|path| (PayloadCopy::Kept(info_hash), path));
        let held = self.hold.as_ref().map(|directory| directory.join(&name));
        let held = held.map(|path| (PayloadCopy::Held(info_hash), path));
        let mut files = kept.into_iter().chain(held);
        let is_good = |(copy, path): &(PayloadCopy, PathBuf)| {
            !self.offers.is_withdrawn(copy)
                && path.metadata().is_ok_and(|file| file.len() == length)
        };
        if let Some((copy, path)) = files.find(is_good) {
            return Some(Content::File { copy, path, name });
        }
        let store = self.offers.store()?;
        let can = self.offers.can_recreate(row, ours);
        can.then(|| Content::Installed {
            hash_part: row.hash_part(),
            path: store.real_path(&row.store_path()),
        })
    }

    /// Payload files in `hold`, by name, with their sizes.
    fn held(&self) -> HashMap<String, u64> {
        let files = self
            .hold
            .iter()
            .filter_map(|directory| directory.read_dir().ok());
        let payloads = files.flatten().flatten().filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let bytes = file.metadata().ok()?.len();
            name.ends_with(".nar.zst").then_some((name, bytes))
        });
        payloads.collect()
    }

    /// What is offered, whatever its bytes come from. Counting walks over the catalog: only when something may have
    /// changed since.
    pub fn summary(&self) -> OfferSummary {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        // Read first: what changes during the count is counted by the next one.
        let version = (*self.offers.changes().borrow(), self.payloads.version());
        if let Some(counted) = &*counted
            && counted.version == version
            && (self.hold.is_none() || counted.at.elapsed() < SUMMARY_AGE)
        {
            return counted.summary;
        }
        let summary = self.count();
        *counted = Some(Counted {
            version,
            at: Instant::now(),
            summary,
        });
        summary
    }

    fn count(&self) -> OfferSummary {
        let held = self.held();
        let mut summary = OfferSummary {
            withdrawn: self.offers.withdrawn(),
            held: held.values().sum(),
            ..OfferSummary::default()
        };
        let is_offered = self.is_offered(held);
        let mut seen = HashSet::new();
        let catalog = self.offers.catalog();
        for (row, ours) in catalog.releases().iter().flat_map(|release| release.rows()) {
            if is_offered(&row, ours) && seen.insert(row.info_hash()) {
                summary.paths += 1;
                summary.bytes += row.payload_length();
            }
        }
        summary
    }

    /// Installed NARs of several frames whose info dict is not known: a request for one would encode all of it first.
    pub fn undescribed(&self) -> Vec<InfoHash> {
        let catalog = self.offers.catalog();
        let rows = catalog.releases().iter().flat_map(|release| release.rows());
        let mut found: Vec<InfoHash> = rows
            .filter(|(row, ours)| {
                row.nar_size() > FRAME_SIZE as u64 && self.offers.can_recreate(row, *ours)
            })
            .map(|(row, _)| row.info_hash())
            .filter(|info_hash| !self.workshop.is_described(info_hash))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Resolves when the releases of all channels are here.
    pub async fn completed(&self) {
        self.offers.completed().await;
    }

    /// How many paths the releases have, each with its own; `None` while not all of them are here.
    pub fn listed(&self) -> Option<u64> {
        let catalog = self.offers.catalog();
        let paths = catalog.releases().iter().map(Release::paths);
        self.offers.is_complete().then(|| paths.sum())
    }

    /// Whether the info dict of this payload is of use: a release lists it, or its bytes are here.
    pub fn needs_info(&self, info_hash: &InfoHash) -> bool {
        let (running, files) = (self.running.read(), self.files.read());
        self.offers.catalog().lists(info_hash)
            || self.payloads.find(info_hash).is_some()
            || running
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(info_hash)
            || files
                .unwrap_or_else(PoisonError::into_inner)
                .contains_key(info_hash)
    }

    /// Tells of rows (and whether their payloads can be re-created) whether they are offered, as things are now.
    fn is_offered(&self, held: HashMap<String, u64>) -> impl Fn(&Row<'_>, bool) -> bool {
        let (offers, kept) = (self.offers.clone(), self.payloads.kept());
        move |row, ours| {
            let info_hash = row.info_hash();
            let is_kept =
                || kept.contains(&info_hash) && !offers.is_withdrawn(&PayloadCopy::Kept(info_hash));
            let is_held = || {
                !held.is_empty()
                    && held.get(&row.payload_name()) == Some(&row.payload_length())
                    && !offers.is_withdrawn(&PayloadCopy::Held(info_hash))
            };
            offers.can_recreate(row, ours) || is_kept() || is_held()
        }
    }

    /// Whether this program makes payloads.
    pub fn encodes(&self) -> bool {
        self.offers.encodes()
    }

    /// Whether the store could give this payload too.
    pub fn is_installed(&self, info_hash: &InfoHash) -> bool {
        self.offers.has_installed(info_hash)
    }

    /// Changes whenever something else may be offered, or downloaded, than before.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.offers.changes()
    }

    /// The downloads that are running.
    pub fn running(&self) -> Vec<InfoHash> {
        let running = self.running.read();
        let running = running.unwrap_or_else(PoisonError::into_inner);
        running.keys().copied().collect()
    }

    /// The rows of these releases that are offered now, by layer: a walk over all of them.
    pub fn select(&self, releases: &[Release], layers: &Layers) -> HashMap<LayerId, Arc<RowSet>> {
        let is_offered = self.is_offered(self.held());
        layers.select(releases, |row, ours| is_offered(row, ours))
    }

    /// A download begins: its pieces are offered as they come.
    pub fn started(&self, part: Arc<PartFile>) {
        self.running
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.info_hash(), part);
        self.offers.changed();
    }

    pub fn ended(&self, info_hash: &InfoHash) {
        self.running
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(info_hash);
        self.offers.changed();
    }

    /// Serves these files beside the catalog's payloads.
    pub fn set_files(&self, files: Vec<PlainFile>) {
        let files = files
            .into_iter()
            .map(|file| (file.info.info_hash(), file))
            .collect();
        *self.files.write().unwrap_or_else(PoisonError::into_inner) = files;
    }
}
