//! The newest pointers of each followed channel, whoever brought them: gossip, the DHT, the publisher's directory.
//!
//! ```text
//! STATE/pointers/TOPIC   l120:...120:...e   the signed items, as `manifest::Pointer` writes them, the newest first
//! ```
//! Pointers are kept on disk, so that a restart knows the newest release before it has met anybody, and can pass it on:
//! passing on needs the signature, not the key. The newest may lead to nothing, when its publisher died in the act or
//! lies. So a few older ones are kept beside it, and beside the newest the one is passed on whose release is here.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::sync::watch;

use crate::manifest::{ChannelName, MAX_POINTER_BYTES, Pointer, PointerError};
use crate::runtime::{Readers, remove_leftovers, write_new};
use crate::torrent::InfoHash;
use crate::torrent::bencode::{BencodeError, Reader, Writer};

/// Pointers that are kept of a channel: the newest, and what is tried when it leads to nothing.
const MAX_KNOWN: usize = 8;

/// What became of an offered pointer that is correctly signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// Beyond the release that is here; whoever subscribed is told.
    Accepted,
    /// One of those that are kept.
    Known,
    /// Behind the release that is here, or behind all that are kept.
    Older,
    /// Of a channel that is not followed here.
    Unfollowed,
}

/// A followed channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Where its agents meet.
    pub info_hash: InfoHash,
    pub channel: ChannelName,
    pub key: [u8; 32],
}

struct Kept {
    topic: Topic,
    /// Nothing below this sequence counts any more.
    minimum: u64,
    /// The manifest of the newest release that is here.
    here: Option<InfoHash>,
    /// The newest first.
    known: Vec<Arc<Pointer>>,
}

impl Kept {
    fn add(&mut self, pointer: Pointer) -> Offered {
        if self.known.iter().any(|known| **known == pointer) {
            return Offered::Known;
        }
        let behind = |known: &Arc<Pointer>| known.sequence() < pointer.sequence();
        let at = self.known.iter().position(behind);
        let at = at.unwrap_or(self.known.len());
        if pointer.sequence() < self.minimum || at == MAX_KNOWN {
            return Offered::Older;
        }
        self.known.insert(at, Arc::new(pointer));
        // The one whose release is here is the last one that may go.
        if self.known.len() > MAX_KNOWN {
            let oldest = self.known.iter().rposition(|known| !self.is_here(known));
            let oldest = oldest.unwrap_or(MAX_KNOWN);
            self.known.remove(oldest);
            if oldest == at {
                return Offered::Older;
            }
        }
        Offered::Accepted
    }

    fn is_here(&self, pointer: &Pointer) -> bool {
        pointer.sequence() == self.minimum && self.here == Some(pointer.manifest())
    }
}

/// All of them; cheap to ask, and `subscribe` wakes whoever waits for news.
pub struct Pointers {
    directory: PathBuf,
    topics: Mutex<HashMap<InfoHash, Kept>>,
    /// Held from the reading to its file, so that what is written last is what is known last.
    writing: Mutex<()>,
    version: watch::Sender<u64>,
}

impl Pointers {
    /// Keeps them in `directory`.
    pub fn new(directory: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&directory)?;
        let _ = remove_leftovers(&directory, Duration::ZERO);
        Ok(Arc::new(Self {
            directory,
            topics: Mutex::default(),
            writing: Mutex::default(),
            version: watch::Sender::new(0),
        }))
    }

    /// From now on pointers of this channel are taken, from `minimum` on; what an earlier run kept counts at once.
    pub fn follow(&self, channel: &ChannelName, key: &[u8; 32], minimum: u64) {
        let topic = channel.topic(key);
        let mut kept = Kept {
            topic: Topic {
                info_hash: topic,
                channel: channel.clone(),
                key: *key,
            },
            minimum,
            here: None,
            known: vec![],
        };
        let read = fs::read(self.path(&topic)).ok();
        let read = read.and_then(|bytes| decode(&bytes).ok());
        for pointer in read.into_iter().flatten() {
            if pointer.target() == topic {
                kept.add(pointer);
            }
        }
        // One that is followed from elsewhere now is the same channel.
        self.lock().entry(topic).or_insert(kept);
        self.version.send_modify(|version| *version += 1);
    }

    /// The release with this manifest is here: pointers to older ones count no more, and its own is passed on.
    pub fn arrived(&self, topic: &InfoHash, sequence: u64, manifest: InfoHash) {
        if let Some(kept) = self.lock().get_mut(topic) {
            kept.minimum = sequence;
            kept.here = Some(manifest);
            kept.known.retain(|known| known.sequence() >= sequence);
        }
        self.version.send_modify(|version| *version += 1);
    }

    /// Pointers of this channel are neither taken nor told of any more.
    pub fn unfollow(&self, topic: &InfoHash) {
        self.lock().remove(topic);
        self.version.send_modify(|version| *version += 1);
    }

    /// The channels whose pointers are taken.
    pub fn followed(&self) -> Vec<Topic> {
        let topics = self.lock();
        topics.values().map(|kept| kept.topic.clone()).collect()
    }

    /// Takes a pointer from anybody: `Err` if it is not one or not signed by the key that it names.
    pub fn offer_bytes(&self, bytes: &[u8]) -> Result<Offered, PointerError> {
        // Neighbours repeat what everybody knows: that costs no signature check.
        let known = |kept: &Kept| kept.known.iter().any(|p| p.encode() == bytes);
        if self.lock().values().any(known) {
            return Ok(Offered::Known);
        }
        Pointer::parse(bytes).map(|pointer| self.offer(pointer))
    }

    /// A pointer vouches for itself: its topic is made of the key that signed it.
    pub fn offer(&self, pointer: Pointer) -> Offered {
        let topic = pointer.target();
        let offered = match self.lock().get_mut(&topic) {
            Some(kept) => kept.add(pointer),
            None => Offered::Unfollowed,
        };
        if offered != Offered::Accepted {
            return offered;
        }
        self.keep(&topic);
        self.version.send_modify(|version| *version += 1);
        Offered::Accepted
    }

    fn keep(&self, topic: &InfoHash) {
        let _writing = self.writing.lock().unwrap_or_else(|e| e.into_inner());
        let Some(encoded) = self.lock().get(topic).map(|kept| encode(&kept.known)) else {
            return;
        };
        if let Err(error) = self.write(topic, &encoded) {
            tracing::warn!(path = %self.path(topic).display(), %error, "a pointer could not be kept");
        }
    }

    /// The known pointers of a channel to releases beyond `sequence`, the newest first.
    pub fn beyond(&self, topic: &InfoHash, sequence: u64) -> Vec<Arc<Pointer>> {
        let topics = self.lock();
        let known = topics.get(topic).into_iter().flat_map(|kept| &kept.known);
        let beyond = known.filter(|pointer| pointer.sequence() > sequence);
        beyond.cloned().collect()
    }

    /// The pointer to the release that is here, if anybody has brought it.
    pub fn here(&self, topic: &InfoHash) -> Option<Arc<Pointer>> {
        let topics = self.lock();
        let kept = topics.get(topic)?;
        let mut here = kept.known.iter().filter(|known| kept.is_here(known));
        here.next().cloned()
    }

    /// What neighbours are told: the newest, and the one to the release that is here.
    pub fn passed_on(&self, topic: &InfoHash) -> Vec<Arc<Pointer>> {
        let newest = self.beyond(topic, 0).into_iter().next();
        let mut told: Vec<Arc<Pointer>> = newest.into_iter().chain(self.here(topic)).collect();
        told.dedup();
        told
    }

    /// Changes whenever there is another pointer, or a channel is followed anew.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn write(&self, topic: &InfoHash, bytes: &[u8]) -> io::Result<()> {
        write_new(&self.path(topic), bytes, Readers::Owner)
    }

    fn path(&self, topic: &InfoHash) -> PathBuf {
        self.directory.join(topic.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Kept>> {
        self.topics.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn encode(pointers: &[Arc<Pointer>]) -> Vec<u8> {
    let mut out = Writer::new();
    out.open_list();
    pointers.iter().for_each(|p| out.bytes(p.encode()));
    out.close();
    out.finish()
}

/// What is damaged is left out.
fn decode(bytes: &[u8]) -> Result<Vec<Pointer>, BencodeError> {
    let read = |input: &mut Reader<'_>| input.bytes(MAX_POINTER_BYTES).map(Pointer::parse);
    let pointers: Vec<_> = Reader::new(bytes).list(MAX_KNOWN, read)?;
    Ok(pointers.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use crate::nix::SecretKey;

    use super::*;

    struct Lab {
        directory: tempfile::TempDir,
        channel: ChannelName,
        key: SecretKey,
    }

    impl Lab {
        fn new() -> Self {
            Self {
                directory: tempfile::tempdir().unwrap(),
                channel: "example".parse().unwrap(),
                key: SecretKey::generate("example-1").unwrap(),
            }
        }

        fn open(&self, minimum: u64) -> Arc<Pointers> {
            let pointers = Pointers::new(self.directory.path().to_owned()).unwrap();
            pointers.follow(&self.channel, &self.key.public().bytes(), minimum);
            pointers
        }

        fn topic(&self) -> InfoHash {
            self.channel.topic(&self.key.public().bytes())
        }

        fn pointer(&self, sequence: u64, manifest: &[u8]) -> Pointer {
            Pointer::sign(&self.channel, sequence, InfoHash::of(manifest), &self.key).unwrap()
        }
    }

    fn sequences(pointers: &[Arc<Pointer>]) -> Vec<u64> {
        pointers.iter().map(|pointer| pointer.sequence()).collect()
    }

    #[test]
    fn what_is_behind_the_release_that_is_here_is_not_taken() {
        let lab = Lab::new();
        let (pointers, topic) = (lab.open(3), lab.topic());
        let mut news = pointers.subscribe();
        news.mark_unchanged();
        let case = |sequence, manifest: &[u8], expected| {
            let encoded = lab.pointer(sequence, manifest).encode();
            assert_eq!(pointers.offer_bytes(&encoded), Ok(expected), "{sequence}");
        };
        case(2, b"a", Offered::Older);
        assert!(!news.has_changed().unwrap());
        case(3, b"a", Offered::Accepted);
        assert!(news.has_changed().unwrap());
        case(3, b"a", Offered::Known);
        case(9, b"b", Offered::Accepted);
        case(8, b"c", Offered::Accepted);
        assert_eq!(sequences(&pointers.beyond(&topic, 3)), [9, 8]);
        assert_eq!(sequences(&pointers.passed_on(&topic)), [9]);
        // 9 leads to nothing: whoever has 8 passes on both.
        pointers.arrived(&topic, 8, InfoHash::of(b"c"));
        assert_eq!(sequences(&pointers.passed_on(&topic)), [9, 8]);
        assert_eq!(pointers.here(&topic).unwrap().sequence(), 8);
        case(7, b"d", Offered::Older);
        pointers.arrived(&topic, 9, InfoHash::of(b"b"));
        assert_eq!(sequences(&pointers.passed_on(&topic)), [9]);
    }

    #[test]
    fn however_many_lead_to_nothing_the_one_that_is_here_stays() {
        let lab = Lab::new();
        let (pointers, topic) = (lab.open(0), lab.topic());
        pointers.offer(lab.pointer(5, b"a"));
        pointers.arrived(&topic, 5, InfoHash::of(b"a"));
        (10..30).for_each(|n| assert_eq!(pointers.offer(lab.pointer(n, b"no")), Offered::Accepted));
        assert_eq!(pointers.beyond(&topic, 0).len(), MAX_KNOWN);
        assert_eq!(sequences(&pointers.passed_on(&topic)), [29, 5]);
        let again = lab.open(5);
        again.arrived(&topic, 5, InfoHash::of(b"a"));
        assert_eq!(sequences(&again.passed_on(&topic)), [29, 5]);
    }

    #[test]
    fn others_are_refused() {
        let (lab, stranger) = (Lab::new(), Lab::new());
        let pointers = lab.open(0);
        let foreign = stranger.pointer(7, b"a");
        assert_eq!(pointers.offer(foreign), Offered::Unfollowed);
        let mut encoded = lab.pointer(7, b"a").encode();
        let last = encoded.len() - 3;
        encoded[last] ^= 1;
        assert!(pointers.offer_bytes(&encoded).is_err());
        assert!(pointers.offer_bytes(b"").is_err());
    }

    #[test]
    fn a_restart_keeps_the_newest_and_the_minimum() {
        let lab = Lab::new();
        let topic = lab.topic();
        lab.open(0).offer(lab.pointer(7, b"a"));
        assert_eq!(sequences(&lab.open(0).beyond(&topic, 0)), [7]);
        // A manifest of sequence 8 was accepted meanwhile: the kept pointer is an old one.
        assert_eq!(lab.open(8).beyond(&topic, 0), []);
        std::fs::write(lab.directory.path().join(topic.to_string()), b"damage").unwrap();
        assert_eq!(lab.open(0).beyond(&topic, 0), []);
    }
}
