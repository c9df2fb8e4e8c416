//! The catalog: the union of the kept manifests of all followed channels, newest first. A snapshot, never changed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::manifest::{Header, Layer, LayerEntry, ReleaseFile, Row, RowId, VerifiedManifest};
use crate::nix::{HashPart, StorePath};
use crate::payload::ENCODER_ID;
use crate::torrent::{InfoDict, InfoHash};

use super::entry::Entry;

/// One verified manifest with all its layers.
#[derive(Clone)]
pub struct Release {
    manifest: Arc<VerifiedManifest>,
    layers: Vec<Arc<Layer>>,
    files: Vec<PlainFile>,
}

/// A file that is served as it is, by its own info hash: a manifest, a layer, a release file.
#[derive(Debug, Clone)]
pub struct PlainFile {
    pub path: PathBuf,
    pub info: Arc<InfoDict>,
}

impl Release {
    /// `layers` are those of the header, in its order: `Layer::parse` has checked each against its entry. The first of the
    /// `files` is the manifest.
    pub fn new(manifest: VerifiedManifest, layers: Vec<Arc<Layer>>, files: Vec<PlainFile>) -> Self {
        Self {
            manifest: Arc::new(manifest),
            layers,
            files,
        }
    }

    pub fn header(&self) -> &Header {
        self.manifest.header()
    }

    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// What a pointer to it names.
    pub fn info_hash(&self) -> Option<InfoHash> {
        self.files.first().map(|manifest| manifest.info.info_hash())
    }

    /// The manifest itself, its layers and what is kept of its release files, as files that others may fetch.
    pub fn plain_files(&self) -> &[PlainFile] {
        &self.files
    }

    /// Where a release file is kept, if it is.
    pub fn release_file(&self, name: &str) -> Option<(&ReleaseFile, &Path)> {
        let files = &self.header().files;
        let listed = files.iter().find(|listed| listed.name == name)?;
        let mut kept = self.files.iter();
        let kept = kept.find(|kept| kept.info.info_hash() == listed.info_hash)?;
        Some((listed, &kept.path))
    }

    pub fn layers(&self) -> &[Arc<Layer>] {
        &self.layers
    }

    /// A layer that this release already has in memory, with its file at `path`.
    pub fn shared_layer(
        &self,
        wanted: &LayerEntry,
        path: &Path,
    ) -> Option<(Arc<Layer>, Option<PlainFile>)> {
        let at = self
            .header()
            .layers
            .iter()
            .position(|listed| listed.sha256 == wanted.sha256)?;
        let file = self.files.iter().find(|file| file.path == path).cloned();
        Some((self.layers.get(at)?.clone(), file))
    }

    /// Live rows: the paths of this release.
    pub fn paths(&self) -> u64 {
        self.header()
            .layers
            .iter()
            .map(|entry| u64::from(entry.live_count()))
            .sum()
    }

    /// Every live row, and whether its payload can be re-created by this program.
    pub fn rows(&self) -> impl Iterator<Item = (Row<'_>, bool)> {
        self.header()
            .layers
            .iter()
            .zip(&self.layers)
            .flat_map(|(listed, layer)| {
                let ours = layer.encoder() == ENCODER_ID;
                layer
                    .rows()
                    .filter(|row| listed.is_live(row.id().row))
                    .map(move |row| (row, ours))
            })
    }

    fn find(&self, hash_part: &HashPart) -> Option<Entry> {
        self.newest_first().find_map(|(listed, layer)| {
            let row = layer.find(hash_part).filter(|row| listed.is_live(*row))?;
            Some(self.entry(&layer.row(row)?, layer))
        })
    }

    fn find_payload(
        &self,
        info_hash: &InfoHash,
        accept: &mut impl FnMut(&Row<'_>, bool) -> bool,
    ) -> Option<Entry> {
        self.newest_first().find_map(|(listed, layer)| {
            let ours = layer.encoder() == ENCODER_ID;
            let mut rows = layer.rows_with(info_hash);
            let row = rows.find(|row| listed.is_live(row.id().row) && accept(row, ours))?;
            Some(self.entry(&row, layer))
        })
    }

    fn lists(&self, info_hash: &InfoHash) -> bool {
        self.newest_first().any(|(listed, layer)| {
            let mut rows = layer.rows_with(info_hash);
            rows.any(|row| listed.is_live(row.id().row))
        })
    }

    /// Later layers first: a path that was built anew stands in the newest.
    fn newest_first(&self) -> impl Iterator<Item = (&LayerEntry, &Arc<Layer>)> {
        self.header().layers.iter().zip(&self.layers).rev()
    }

    fn entry(&self, row: &Row<'_>, layer: &Layer) -> Entry {
        let mut references: Vec<StorePath> = row
            .references()
            .filter_map(|id| self.store_path(id))
            .collect();
        // Fingerprints list them in this order.
        references.sort_unstable();
        Entry {
            channel: self.header().channel.clone(),
            store_dir: self.header().store_dir.clone(),
            store_path: row.store_path(),
            nar_hash: row.nar_hash(),
            nar_size: row.nar_size(),
            references,
            deriver: row.deriver(),
            signatures: row.signatures().collect(),
            ca: row.ca().map(str::to_owned),
            payload_length: row.payload_length(),
            info_hash: row.info_hash(),
            our_encoder: layer.encoder() == ENCODER_ID,
        }
    }

    fn store_path(&self, id: RowId) -> Option<StorePath> {
        let at = self
            .header()
            .layers
            .iter()
            .position(|listed| listed.number == id.layer)?;
        Some(self.layers.get(at)?.row(id.row)?.store_path())
    }
}

#[derive(Clone, Default)]
pub struct Catalog {
    releases: Vec<Release>,
}

impl Catalog {
    /// `releases` in order of preference: what stands first wins.
    pub fn new(releases: Vec<Release>) -> Self {
        Self { releases }
    }

    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// All rows for a store path, the preferred one first: channels may disagree, and then the next one is tried.
    pub fn find(&self, hash_part: &HashPart) -> impl Iterator<Item = Entry> + use<'_> {
        let hash_part = *hash_part;
        self.releases
            .iter()
            .filter_map(move |release| release.find(&hash_part))
    }

    /// Whether any release has this payload.
    pub fn lists(&self, info_hash: &InfoHash) -> bool {
        let mut releases = self.releases.iter();
        releases.any(|release| release.lists(info_hash))
    }

    /// The first row with this payload that is accepted, given whether it can be re-created by this program. Equal NARs
    /// share a payload, and a channel may name it for a path that nobody has.
    pub fn find_payload(
        &self,
        info_hash: &InfoHash,
        mut accept: impl FnMut(&Row<'_>, bool) -> bool,
    ) -> Option<Entry> {
        let mut releases = self.releases.iter();
        releases.find_map(|release| release.find_payload(info_hash, &mut accept))
    }
}
