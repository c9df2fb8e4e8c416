//! The newest pointer of each followed channel, whoever brought it: gossip, the DHT, the publisher's directory.
//!
//! ```text
//! STATE/pointers/TOPIC   the signed item, as `manifest::Pointer` writes it
//! ```
//! A pointer is kept on disk, so that a restart knows the newest release before it has met anybody, and can pass it on:
//! passing on needs the signature, not the key.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::manifest::{ChannelName, Pointer, PointerError};
use crate::torrent::InfoHash;

/// What became of an offered pointer that is correctly signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offered {
    /// The newest until now; whoever subscribed is told.
    Accepted,
    /// The very one that is kept.
    Known,
    /// Not newer than what is kept, or below the minimum.
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
    newest: Option<Arc<Pointer>>,
}

/// All of them; cheap to ask, and `subscribe` wakes whoever waits for news.
pub struct Pointers {
    directory: PathBuf,
    topics: Mutex<HashMap<InfoHash, Kept>>,
    version: watch::Sender<u64>,
}

impl Pointers {
    /// Keeps them in `directory`.
    pub fn new(directory: PathBuf) -> io::Result<Arc<Self>> {
        fs::create_dir_all(&directory)?;
        Ok(Arc::new(Self {
            directory,
            topics: Mutex::default(),
            version: watch::Sender::new(0),
        }))
    }

    /// From now on pointers of this channel are taken, from `minimum` on; one that an earlier run kept counts at once.
    pub fn follow(&self, channel: &ChannelName, key: &[u8; 32], minimum: u64) {
        let topic = channel.topic(key);
        let kept = fs::read(self.path(&topic)).ok();
        let kept = kept.and_then(|bytes| Pointer::parse(&bytes).ok());
        let kept = kept.filter(|pointer| pointer.target() == topic);
        let newest = kept.filter(|pointer| pointer.sequence() >= minimum);
        let kept = Kept {
            topic: Topic {
                info_hash: topic,
                channel: channel.clone(),
                key: *key,
            },
            minimum,
            newest: newest.map(Arc::new),
        };
        self.lock().insert(topic, kept);
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
        let known = |kept: &Kept| kept.newest.as_ref().is_some_and(|p| p.encode() == bytes);
        if self.lock().values().any(known) {
            return Ok(Offered::Known);
        }
        Pointer::parse(bytes).map(|pointer| self.offer(pointer))
    }

    /// A pointer vouches for itself: its topic is made of the key that signed it.
    pub fn offer(&self, pointer: Pointer) -> Offered {
        let (topic, sequence) = (pointer.target(), pointer.sequence());
        let encoded = pointer.encode();
        {
            let mut topics = self.lock();
            let Some(kept) = topics.get_mut(&topic) else {
                return Offered::Unfollowed;
            };
            match &kept.newest {
                Some(newest) if **newest == pointer => return Offered::Known,
                // One sequence, one manifest: a second one would only make agents disagree.
                Some(newest) if sequence <= newest.sequence() => return Offered::Older,
                _ if sequence < kept.minimum => return Offered::Older,
                _ => kept.newest = Some(Arc::new(pointer)),
            }
        }
        if let Err(error) = self.write(&topic, &encoded) {
            tracing::warn!(path = %self.path(&topic).display(), %error, "a pointer could not be kept");
        }
        self.version.send_modify(|version| *version += 1);
        Offered::Accepted
    }

    /// The newest known pointer of a channel.
    pub fn newest(&self, topic: &InfoHash) -> Option<Arc<Pointer>> {
        self.lock().get(topic)?.newest.clone()
    }

    /// Changes whenever a newer pointer is there, or a channel is followed anew.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn write(&self, topic: &InfoHash, bytes: &[u8]) -> io::Result<()> {
        let mut file = tempfile::Builder::new()
            .prefix(".new-")
            .tempfile_in(&self.directory)?;
        file.write_all(bytes)?;
        file.persist(self.path(topic))?;
        Ok(())
    }

    fn path(&self, topic: &InfoHash) -> PathBuf {
        self.directory.join(topic.to_string())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<InfoHash, Kept>> {
        self.topics.lock().unwrap_or_else(|e| e.into_inner())
    }
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

        fn pointer(&self, sequence: u64, manifest: &[u8]) -> Pointer {
            Pointer::sign(&self.channel, sequence, InfoHash::of(manifest), &self.key).unwrap()
        }
    }

    #[test]
    fn only_newer_ones_are_taken() {
        let lab = Lab::new();
        let pointers = lab.open(3);
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
        case(3, b"b", Offered::Older);
        case(9, b"b", Offered::Accepted);
        case(8, b"a", Offered::Older);
        let topic = lab.channel.topic(&lab.key.public().bytes());
        assert_eq!(pointers.newest(&topic).unwrap().sequence(), 9);
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
        let topic = lab.channel.topic(&lab.key.public().bytes());
        lab.open(0).offer(lab.pointer(7, b"a"));
        let again = lab.open(0);
        assert_eq!(*again.newest(&topic).unwrap(), lab.pointer(7, b"a"));
        assert_eq!(again.offer(lab.pointer(6, b"a")), Offered::Older);
        // A manifest of sequence 8 was accepted meanwhile: the kept pointer is an old one.
        assert_eq!(lab.open(8).newest(&topic), None);
        std::fs::write(lab.directory.path().join(topic.to_string()), b"damage").unwrap();
        assert_eq!(lab.open(0).newest(&topic), None);
    }
}
