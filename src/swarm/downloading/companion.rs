//! The talk that librqbit does not have: beside a larger download, one connection to each peer's seeder that tells where
//! this machine is reached and which pieces it has, and learns who else downloads (BEP 11) and which pieces others get.
//!
//! It asks for nothing. A super-seeding peer needs it to know what has spread, and the crowd to find itself. It tells
//! what this machine does, so it goes only where `share` lets uploads go, and only to our own program.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::torrent::Bitfield;

use super::local_tracker::LocalTracker;
use crate::swarm::payloads::PartFile;
use crate::swarm::protocol::messages::{self, OurHello};
use crate::swarm::protocol::{PeerId, PeerMessage, PeerReader, Program, WireError};
use crate::swarm::seeding::CROWD_PIECES;
use crate::swarm::share::SharePolicy;

/// Most payloads are there by then, and need nobody to talk to.
const AFTER: Duration = Duration::from_millis(300);
/// Peers talked to at a time, for one download.
const MAX_TALKS: usize = 64;
/// A peer that tells of others must not make us knock at one door for ever, nor at every door.
const MAX_TRIES: u32 = 3;
const MAX_TRIED: usize = 256;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A seeder says HAVE or keeps silent; the connection is a small thing, but not for ever.
const SILENCE: Duration = Duration::from_secs(130);
/// Finished pieces are told of together.
const HAVE_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Error)]
enum TalkError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    #[error("no answer in time")]
    Silent,
    #[error("the peer is another program")]
    Stranger,
}

/// What the talks of one download share.
pub struct Companion {
    pub part: Arc<PartFile>,
    pub policy: Arc<SharePolicy>,
    pub tracker: Arc<LocalTracker>,
    pub peer_id: PeerId,
    /// Where this machine is reached.
    pub port: u16,
    /// Notified when a peer got a piece that this download lacks.
    pub offered: Arc<Notify>,
}

impl Companion {
    /// Talks to `peers` and to those that they tell of, until dropped.
    pub async fn run(self, peers: Vec<SocketAddr>) {
        if self.part.info().piece_count() < CROWD_PIECES {
            return;
        }
        tokio::time::sleep(AFTER).await;
        let this = Arc::new(self);
        let (found, mut finds) = mpsc::channel::<(IpAddr, Vec<SocketAddr>)>(MAX_TALKS);
        let mut talks = JoinSet::new();
        let mut talking = HashSet::new();
        let mut tries: HashMap<SocketAddr, u32> = HashMap::new();
        let mut waiting = peers;
        loop {
            for peer in waiting.drain(..) {
                let tried = tries.get(&peer).copied().unwrap_or(0);
                let new = tried > 0 || tries.len() < MAX_TRIED;
                let worth = new && tried < MAX_TRIES && this.policy.allows(peer);
                if worth && talking.len() < MAX_TALKS && talking.insert(peer) {
                    tries.insert(peer, tried + 1);
                    let (this, found) = (this.clone(), found.clone());
                    talks.spawn(async move {
                        let result = tokio::select! {
                            biased;
                            () = this.policy.refuses(peer) => Ok(()),
                            result = this.talk(peer, found) => result,
                        };
                        (peer, result)
                    });
                }
            }
            tokio::select! {
                Some((from, peers)) = finds.recv() => {
                    waiting = this.tracker.tell(&this.part.info_hash(), from, peers);
                }
                Some(ended) = talks.join_next() => if let Ok((peer, result)) = ended {
                    // Whoever tells of it again makes us try again.
                    talking.remove(&peer);
                    if let Err(error) = result {
                        tracing::debug!(%peer, %error, "a talk ended");
                    }
                },
                // Without a talk nobody tells of further peers.
                else => return,
            }
            if talks.is_empty() && waiting.is_empty() {
                return;
            }
        }
    }

    async fn talk(
        &self,
        address: SocketAddr,
        found: mpsc::Sender<(IpAddr, Vec<SocketAddr>)>,
    ) -> Result<(), TalkError> {
        let connect = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connect
            .map_err(|_| TalkError::Silent)?
            .map_err(TalkError::Connect)?;
        let _ = stream.set_nodelay(true);
        let (read, mut write) = stream.into_split();
        let mut reader = PeerReader::new(read);
        let mut progress = self.part.progress();
        let mut told = self.part.have();
        let mut out = BytesMut::new();
        let peer_id = *self.peer_id.companion().as_bytes();
        messages::put_handshake(&mut out, self.part.info_hash(), peer_id, false);
        write.write_all(&out).await.map_err(WireError::from)?;
        let hello = timeout(CONNECT_TIMEOUT, reader.handshake())
            .await
            .map_err(|_| TalkError::Silent)??;
        // Nothing before this: aria2 bans whoever says more than a handshake at first.
        if PeerId::from_bytes(hello.peer_id).program() != Program::Narswarm {
            return Err(TalkError::Stranger);
        }
        out.clear();
        messages::put_bitfield(&mut out, told.as_bytes());
        messages::put_hello(
            &mut out,
            &OurHello {
                port: Some(self.port),
                metadata_size: None,
                reqq: 0,
                upload_only: false,
                gossip: false,
                peers: true,
            },
        );
        write.write_all(&out).await.map_err(WireError::from)?;
        let mut tell = tokio::time::interval(HAVE_INTERVAL);
        loop {
            tokio::select! {
                message = timeout(SILENCE, reader.next()) => {
                    let message = message.map_err(|_| TalkError::Silent)??;
                    if let PeerMessage::Peers(peers) = message {
                        let _ = found.send((address.ip(), peers)).await;
                    } else {
                        self.listen(&message);
                    }
                }
                _ = tell.tick() => if progress.has_changed().unwrap_or(false) {
                    progress.mark_unchanged();
                    out.clear();
                    put_finished(&mut out, &mut told, &self.part.have());
                    write.write_all(&out).await.map_err(WireError::from)?;
                },
            }
        }
    }

    fn listen(&self, message: &PeerMessage) {
        match message {
            PeerMessage::Have(piece) if !self.part.has(*piece) => self.offered.notify_one(),
            PeerMessage::HaveAll | PeerMessage::Bitfield(_) => self.offered.notify_one(),
            _ => {}
        }
    }
}

fn put_finished(out: &mut BytesMut, told: &mut Bitfield, have: &Bitfield) {
    for piece in 0..have.piece_count() {
        if have.get(piece) && told.set(piece) {
            messages::put_have(out, piece);
        }
    }
}

#[cfg(test)]
mod tests {
    use sha1::{Digest, Sha1};
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::swarm::discovery::PeerOrigin;
    use crate::swarm::downloading::Sources;
    use crate::swarm::gossip;
    use crate::swarm::share::Share;
    use crate::torrent::InfoDict;

    const PATIENCE: Duration = Duration::from_secs(20);

    /// A download of which nothing is here yet.
    fn part(place: &std::path::Path) -> PartFile {
        let piece_length = 16 * 1024;
        let bytes = vec![7; CROWD_PIECES as usize * piece_length];
        let pieces = bytes.chunks(piece_length).map(|p| Sha1::digest(p).into());
        let info = InfoDict {
            name: "sample".into(),
            length: bytes.len() as u64,
            piece_length: piece_length as u32,
            pieces: pieces.collect(),
            frames: None,
        };
        PartFile::open(place, Arc::new(info)).unwrap()
    }

    #[tokio::test]
    async fn a_talk_ends_when_its_peer_is_not_to_be_told_any_more() {
        let place = tempfile::tempdir().unwrap();
        let (peers, gossip) = gossip::lab::alone(place.path());
        let sources = Arc::new(Sources::new(peers.clone(), gossip));
        let stop = CancellationToken::new();
        let policy = Arc::new(SharePolicy::new(Share::Lan, vec![]));
        let tracker = LocalTracker::start(sources, policy.clone(), stop)
            .await
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let peer = listener.local_addr().unwrap();
        peers.add(peer, PeerOrigin::Config);
        let part = Arc::new(part(place.path()));
        let companion = Companion {
            part: part.clone(),
            policy: policy.clone(),
            tracker,
            peer_id: PeerId::random(),
            port: 1,
            offered: Arc::default(),
        };
        tokio::spawn(companion.run(vec![peer]));

        let (stream, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let (read, mut write) = stream.into_split();
        let mut reader = PeerReader::new(read);
        reader.handshake().await.unwrap();
        let mut out = BytesMut::new();
        let peer_id = *PeerId::random().as_bytes();
        messages::put_handshake(&mut out, part.info_hash(), peer_id, false);
        write.write_all(&out).await.unwrap();
        let bitfield = reader.next().await.unwrap();
        assert!(matches!(bitfield, PeerMessage::Bitfield(_)));
        let hello = reader.next().await.unwrap();
        assert!(matches!(hello, PeerMessage::Hello { port: Some(1), .. }));

        policy.set(Share::Off, vec![]);
        part.completed(0).unwrap();
        let (mut read, unread) = reader.into_parts();
        assert!(unread.is_empty());
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, read.read_to_end(&mut rest)).await;
        assert!(end.is_ok_and(|end| end.is_ok()), "it goes on");
        assert_eq!(rest, b"", "it was told of a piece");
    }
}
