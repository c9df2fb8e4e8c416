//! What the downloads and their peers let expect: questions that change nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::runtime::Meter;
use crate::torrent::InfoHash;

use super::download::Download;
use super::downloads::Downloads;

/// What there is to expect of the swarm for one payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prospect {
    /// It is on this machine's disk.
    Here,
    /// A peer has shown lately that it has the payload, or says so.
    Shown,
    /// There are peers that answer, and have not said that they lack it.
    Reachable,
    Nobody,
}

/// What a running download has received, and with whom it shares the line.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Bytes of blocks.
    pub received: u64,
    /// Other running downloads.
    pub others: usize,
    /// Those of them that have received blocks.
    pub others_flowing: usize,
}

impl Downloads {
    pub fn prospect(&self, info_hash: &InfoHash) -> Prospect {
        let whole = |download: Arc<Download>| download.part().is_complete();
        let running = self.lock().get(info_hash).and_then(Weak::upgrade);
        if running.is_some_and(whole) || self.kept(info_hash).is_some() {
            Prospect::Here
        } else if self.engine.fault().is_some() {
            Prospect::Nobody
        } else if self.finder.was_shown(info_hash) || self.sources.has_holders(info_hash) {
            Prospect::Shown
        } else if self.sources.may_have(info_hash) {
            Prospect::Reachable
        } else {
            Prospect::Nobody
        }
    }

    /// Bytes that the other running downloads have received: it changes as long as any of them gets on.
    pub fn received_beside(&self, info_hash: &InfoHash) -> u64 {
        beside(&self.lock(), info_hash).iter().sum()
    }

    /// How the running download of this payload gets on.
    pub fn traffic(&self, info_hash: &InfoHash) -> Option<Traffic> {
        let running = self.lock();
        let download = running.get(info_hash).and_then(Weak::upgrade)?;
        let others = beside(&running, info_hash);
        Some(Traffic {
            received: download.part().received(),
            others: others.len(),
            others_flowing: others.iter().filter(|received| **received > 0).count(),
        })
    }

    /// Payload bytes of all downloads.
    pub fn meter(&self) -> &Meter {
        self.engine.meter()
    }

    /// How many wait for peers.
    pub fn count(&self) -> usize {
        let running = self.running();
        // One that is complete is only being put away.
        let from_peers =
            |download: &&Arc<Download>| !download.is_filled() && !download.part().is_complete();
        running.iter().filter(from_peers).count()
    }

    /// Whether others fetch the same at this moment.
    pub fn are_in_a_crowd(&self) -> bool {
        let running = self.running();
        let wanted =
            |download: &Arc<Download>| self.sources.is_being_fetched(&download.part().info_hash());
        running.iter().any(wanted)
    }

    /// Whether there is anybody to ask.
    pub fn has_peers(&self) -> bool {
        self.engine.fault().is_none() && self.sources.has_any()
    }

    /// Why nothing can be downloaded, whoever has it.
    pub fn fault(&self) -> Option<&str> {
        self.engine.fault()
    }

    /// Whether there is somebody to ask, and nobody was reached yet.
    pub fn looks_for_peers(&self) -> bool {
        self.has_peers() && self.sources.peers().reached().is_empty()
    }
}

/// What each of the other running downloads has received.
fn beside(running: &HashMap<InfoHash, Weak<Download>>, info_hash: &InfoHash) -> Vec<u64> {
    let others = running.iter().filter(|(other, _)| *other != info_hash);
    let others = others.filter_map(|(_, other)| other.upgrade());
    others.map(|download| download.part().received()).collect()
}
