//! What a topic connection may speak of: the layers of one channel's verified manifests, and nothing else.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::catalog::Release;
use crate::manifest::Layer;
use crate::torrent::InfoHash;

use super::message::{LayerId, LayerRows, MAX_LAYERS};
use super::row_set::{RowSet, RowSetError};

/// Rows that one question names at most: a batch of payloads, each in a few layers. Far more than is asked, and little
/// enough to be looked up at once.
pub const MAX_ASKED: u32 = 8192;

/// A row by its layer's name: row ids as they travel.
pub type RowName = (LayerId, u32);

#[derive(Default)]
pub struct Layers(HashMap<LayerId, Arc<Layer>>);

impl Layers {
    /// The layers of these releases, the newest release first.
    pub fn of(releases: &[Release]) -> Self {
        let mut layers = HashMap::new();
        for release in releases {
            for (entry, layer) in release.header().layers.iter().zip(release.layers()) {
                if layers.len() < MAX_LAYERS {
                    layers.insert(entry.sha256, layer.clone());
                }
            }
        }
        Self(layers)
    }

    /// Their names, in order.
    pub fn ids(&self) -> Vec<LayerId> {
        let mut ids: Vec<LayerId> = self.0.keys().copied().collect();
        ids.sort_unstable();
        ids
    }

    pub fn knows(&self, layer: &LayerId) -> bool {
        self.0.contains_key(layer)
    }

    /// Every row with this payload, at most one of each layer.
    pub fn rows_of(&self, info_hash: &InfoHash) -> Vec<RowName> {
        let rows = self.0.iter();
        rows.filter_map(|(id, layer)| Some((*id, layer.find_info_hash(info_hash)?)))
            .collect()
    }

    pub fn info_hash(&self, (layer, row): &RowName) -> Option<InfoHash> {
        Some(self.0.get(layer)?.row(*row)?.info_hash())
    }

    /// What one message says of the layers that are known here, each row once.
    pub fn decode<'a>(
        &self,
        named: impl IntoIterator<Item = &'a LayerRows>,
        at_most: u32,
    ) -> Result<HashMap<LayerId, RowSet>, RowSetError> {
        let mut sets: HashMap<LayerId, RowSet> = HashMap::new();
        let mut left = at_most;
        for part in named {
            let Some(layer) = self.0.get(&part.layer) else {
                continue;
            };
            let set = sets.entry(part.layer);
            let set = set.or_insert_with(|| RowSet::new(layer.len()));
            let before = set.len();
            set.add(&part.rows, before.saturating_add(left))
                .map_err(|error| match error {
                    RowSetError::TooMany(_) => RowSetError::TooMany(at_most),
                    error => error,
                })?;
            left -= set.len() - before;
        }
        Ok(sets)
    }

    /// The rows of known layers that a question or its answer names.
    pub fn decode_question(&self, named: &[LayerRows]) -> Result<Vec<RowName>, RowSetError> {
        let sets = self.decode(named, MAX_ASKED)?;
        let rows = sets.iter().flat_map(|(layer, set)| {
            let rows = set.iter();
            rows.map(move |row| (*layer, row))
        });
        Ok(rows.collect())
    }

    /// Rows as they are named to a neighbour.
    pub fn encode(&self, rows: impl IntoIterator<Item = RowName>) -> Vec<LayerRows> {
        let mut sets: HashMap<LayerId, RowSet> = HashMap::new();
        for (id, row) in rows {
            if let Some(layer) = self.0.get(&id) {
                let set = sets.entry(id).or_insert_with(|| RowSet::new(layer.len()));
                set.insert(row);
            }
        }
        let parts = sets.into_iter().flat_map(|(layer, set)| {
            let parts = set.encode().into_iter();
            parts.map(move |rows| LayerRows { layer, rows })
        });
        parts.collect()
    }

    /// The live rows of `releases` for whose payload `holds` says yes; every layer has an entry.
    pub fn select(
        &self,
        releases: &[Release],
        mut holds: impl FnMut(&crate::manifest::Row<'_>, bool) -> bool,
    ) -> HashMap<LayerId, Arc<RowSet>> {
        let mut sets: HashMap<LayerId, RowSet> = self
            .0
            .iter()
            .map(|(id, layer)| (*id, RowSet::new(layer.len())))
            .collect();
        let mut asked: HashSet<RowName> = HashSet::new();
        for release in releases {
            for (row, ours) in release.rows() {
                let Some(entry) = release.header().layer(row.id().layer) else {
                    continue;
                };
                // Releases share most rows.
                if releases.len() > 1 && !asked.insert((entry.sha256, row.id().row)) {
                    continue;
                }
                if let Some(set) = sets.get_mut(&entry.sha256)
                    && holds(&row, ours)
                {
                    set.insert(row.id().row);
                }
            }
        }
        sets.into_iter()
            .map(|(id, set)| (id, Arc::new(set)))
            .collect()
    }
}
