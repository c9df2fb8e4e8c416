//! Finds what can be served by info hash.
//!
//! A row is served only while a verified manifest lists it. Its pieces come, in this order, from a running download,
//! from a payload file that is kept, or from the NAR that is installed: then its frames are made again.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::catalog::{Entry, InfoDicts, Offers, PlainFile, Release};
use crate::manifest::Row;
use crate::payload::FRAME_SIZE;
use crate::torrent::InfoHash;

use super::offer::{Content, Offer};
use super::workshop::Workshop;
use crate::swarm::gossip::{LayerId, Layers, RowSet};
use crate::swarm::payloads::PartFile;
use crate::swarm::payloads::PayloadDirectory;

/// How much is offered.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OfferSummary {
    pub paths: u64,
    pub bytes: u64,
    pub withdrawn: u64,
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
}

impl OfferBook {
    pub fn new(
        offers: Arc<Offers>,
        infos: Arc<InfoDicts>,
        payloads: PayloadDirectory,
        hold: Option<PathBuf>,
        recreate_threads: Option<usize>,
    ) -> Self {
        let workshop = Arc::new(Workshop::new(offers.clone(), infos, recreate_threads));
        Self {
            offers,
            workshop,
            payloads,
            hold,
            running: RwLock::default(),
            files: RwLock::default(),
        }
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
            let (length, piece_length) = (file.info.length, file.info.piece_length);
            self.workshop.remember(*info_hash, file.info);
            return Some(Offer {
                workshop: self.workshop.clone(),
                info_hash: *info_hash,
                channel: "".into(),
                size: length,
                length,
                piece_length,
                content: Content::File(file.path),
            });
        }
        let entry = self.offers.catalog().find_payload(info_hash)?;
        let content = self.content(&entry)?;
        Some(Offer {
            workshop: self.workshop.clone(),
            info_hash: *info_hash,
            channel: entry.channel.as_str().into(),
            size: entry.nar_size,
            length: entry.payload_length,
            piece_length: entry.piece_length(),
            content,
        })
    }

    fn content(&self, entry: &Entry) -> Option<Content> {
        let running = self
            .running
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&entry.info_hash)
            .cloned();
        if let Some(part) = running {
            return Some(Content::Download(part));
        }
        if let Some(path) = self.payloads.find(&entry.info_hash) {
            return Some(Content::File(path));
        }
        let held = self
            .hold
            .as_ref()
            .map(|directory| directory.join(entry.payload_name()));
        if let Some(path) = held.filter(|path| {
            path.metadata()
                .is_ok_and(|m| m.len() == entry.payload_length)
        }) {
            return (!self.offers.is_withdrawn(&entry.info_hash)).then_some(Content::File(path));
        }
        let entry = self.offers.installed_payload(&entry.info_hash)?;
        let path = self.offers.store()?.real_path(&entry.store_path);
        Some(Content::Installed { path })
    }

    /// Bytes of the payload files that lie in `hold`.
    pub fn held_bytes(&self) -> u64 {
        self.held().values().sum()
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

    /// What is offered now, whatever its bytes come from: a walk over the catalog, for `status`.
    pub fn summary(&self) -> OfferSummary {
        let is_offered = self.is_offered();
        let mut seen = HashSet::new();
        let mut summary = OfferSummary {
            withdrawn: self.offers.withdrawn(),
            ..OfferSummary::default()
        };
        for (row, ours) in self
            .offers
            .catalog()
            .releases()
            .iter()
            .flat_map(|release| release.rows())
        {
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
                *ours
                    && row.nar_size() > FRAME_SIZE as u64
                    && self.offers.is_installed(&row.hash_part(), &row.nar_hash())
            })
            .map(|(row, _)| row.info_hash())
            .filter(|info_hash| !self.offers.is_withdrawn(info_hash))
            .filter(|info_hash| !self.workshop.is_described(info_hash))
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Tells of rows (and whether their payloads can be re-created) whether they are offered, as things are now.
    fn is_offered(&self) -> impl Fn(&Row<'_>, bool) -> bool {
        let (offers, kept, held) = (self.offers.clone(), self.payloads.kept(), self.held());
        move |row, ours| {
            let info_hash = row.info_hash();
            let name = || format!("{}.nar.zst", row.nar_hash().base32());
            !offers.is_withdrawn(&info_hash)
                && ((ours && offers.is_installed(&row.hash_part(), &row.nar_hash()))
                    || kept.contains(&info_hash)
                    || (!held.is_empty() && held.get(&name()) == Some(&row.payload_length())))
        }
    }

    /// Whether the store could give this payload too.
    pub fn is_installed(&self, info_hash: &InfoHash) -> bool {
        self.offers.installed_payload(info_hash).is_some()
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
        let is_offered = self.is_offered();
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
