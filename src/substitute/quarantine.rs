//! What was caught giving another NAR than the one asked for, per row: it is not asked for that row for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::catalog::Entry;
use crate::nix::{HashPart, NarHash};
use crate::torrent::InfoHash;

/// A source of one NAR.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Culprit {
    /// A payload that is not what a row says: its info hash and length, NarHash and NarSize. Another row may say what is
    /// so.
    Payload(InfoHash, u64, NarHash, u64),
    /// An installed path that was changed on disk.
    StorePath(HashPart),
    /// An upstream, by its URL, for one NAR.
    Upstream(String, NarHash),
}

impl Culprit {
    pub fn payload(row: &Entry) -> Self {
        let (length, size) = (row.payload_length, row.nar_size);
        Self::Payload(row.info_hash, length, row.nar_hash, size)
    }
}

/// Then they get another chance (a bit may have flipped anywhere), and are caught again if they lie again.
const LASTING: Duration = Duration::from_secs(600);

#[derive(Default)]
pub struct Quarantine {
    /// Since when.
    culprits: Mutex<HashMap<Culprit, Instant>>,
}

impl Quarantine {
    /// Returns whether it was not in quarantine yet.
    pub fn add(&self, culprit: Culprit) -> bool {
        self.add_at(culprit, Instant::now())
    }

    pub fn has(&self, culprit: &Culprit) -> bool {
        let culprits = self.lock();
        let since = culprits.get(culprit);
        since.is_some_and(|since| since.elapsed() < LASTING)
    }

    fn add_at(&self, culprit: Culprit, now: Instant) -> bool {
        let mut culprits = self.lock();
        culprits.retain(|_, since| since.elapsed() < LASTING);
        culprits.insert(culprit, now).is_none()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Culprit, Instant>> {
        self.culprits.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use crate::nix::{StoreDir, StorePath};

    use super::*;

    fn row(nar: u8) -> Entry {
        Entry {
            channel: "lab".parse().unwrap(),
            store_dir: StoreDir::default(),
            store_path: StorePath::parse_base_name("05xfwnl62nipbw1ankbcv2crjhb9a918-a").unwrap(),
            nar_hash: NarHash::from_bytes([nar; 32]),
            nar_size: 100,
            references: vec![],
            deriver: None,
            signatures: vec![],
            ca: None,
            payload_length: 50,
            info_hash: InfoHash::from_bytes([1; 20]),
            our_encoder: true,
        }
    }

    /// Whoever lists its payload for another NAR of the same size does not take it from the row that is right.
    #[test]
    fn one_payload_may_be_a_lie_for_one_nar_and_true_for_another() {
        let quarantine = Quarantine::default();
        assert!(quarantine.add(Culprit::payload(&row(1))));
        assert!(!quarantine.add(Culprit::payload(&row(1))));
        assert!(!quarantine.has(&Culprit::payload(&row(2))));
    }

    #[test]
    fn it_ends() {
        let (quarantine, culprit) = (Quarantine::default(), Culprit::payload(&row(1)));
        let Some(long_ago) = Instant::now().checked_sub(LASTING) else {
            // The machine has only just started: nothing is that long ago.
            return;
        };
        assert!(quarantine.add_at(culprit.clone(), long_ago));
        assert!(!quarantine.has(&culprit));
        assert!(quarantine.add(culprit.clone()) && quarantine.has(&culprit));
    }
}
