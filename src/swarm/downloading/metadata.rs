//! Fetches the info dict of a payload from peers (BEP 9), several at once; what it says is verified by its hash.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use futures_util::stream::{FuturesUnordered, StreamExt};
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::torrent::{InfoDict, InfoHash, MAX_INFO_DICT, TorrentError};

use super::sources::{Ranked, Sources};
use crate::swarm::protocol::messages::{self, OurHello};
use crate::swarm::protocol::{PeerMessage, PeerReader, WireError};

/// Peers asked at the same time; the others follow as these fail.
const PARALLEL: usize = 4;
/// Those that are said to have it need not wait for strangers that do not answer.
const PARALLEL_HOLDERS: usize = 8;
/// Strangers asked for one dict: of all that are known, a few at a time, most would be asked before anybody gives up.
const MAX_STRANGERS: usize = 80;
/// Strangers are not asked for so long while neighbours may still name somebody.
const STRANGERS_WAIT: Duration = Duration::from_millis(250);
const OVERDUE_CHECK: Duration = Duration::from_millis(100);
/// A peer on the other side of the world answers a connect in well under this.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A peer of any program says hello at once, whatever it has to do for the dict.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// From the connect to the whole dict; a seeder may first have to encode a large NAR to compute it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
const METADATA_PIECE: u32 = 16 * 1024;
/// We want the info dict and nothing else.
const HELLO: OurHello = OurHello {
    gossip: false,
    port: None,
    metadata_size: None,
    reqq: 1,
    upload_only: false,
    peers: false,
};

#[derive(Debug, Error)]
pub enum MetadataError {
    #[error("none of {asked} peers has this payload")]
    Nobody { asked: usize },
    #[error("connecting: {0}")]
    Connect(std::io::Error),
    #[error("no connection in time")]
    Unreachable,
    #[error("no handshake in time")]
    Mute,
    #[error("no answer in time")]
    Silent,
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the peer does not serve metadata")]
    Unsupported,
    #[error("the peer announces metadata of {0} bytes, the limit is {MAX_INFO_DICT}")]
    Size(u32),
    #[error("the peer sent metadata with another hash")]
    Hash,
    #[error("the metadata is not an info dict: {0}")]
    Dict(#[from] TorrentError),
}

/// When the extension handshake is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opening {
    /// With the handshake: a round trip less, for those who gossip and are thus our own program.
    AtOnce,
    /// After the peer's handshake: aria2 hangs up on whoever says more before.
    InTurn,
}

/// The info dict of `info_hash`, from whichever source answers first; those that turn up meanwhile are asked too.
pub async fn fetch(
    sources: &Sources,
    info_hash: InfoHash,
    peer_id: [u8; 20],
) -> Result<InfoDict, MetadataError> {
    let started = Instant::now();
    let mut changes = sources.changes();
    let mut asked = HashSet::new();
    let mut strangers_left = MAX_STRANGERS;
    let ask = |address, opening| async move {
        let fetched = fetch_from(address, info_hash, peer_id, opening).await;
        (address, fetched)
    };
    let mut asking = FuturesUnordered::new();
    loop {
        let open = sources.gossip().is_asking(&info_hash);
        let Ranked {
            whole,
            getting,
            doubtful,
            strangers,
            last_resort,
        } = sources.ranked(&info_hash);
        // Most strangers do not have it; a neighbour's answer who does is often one round trip away.
        let nobody = whole.is_empty() && getting.is_empty();
        let patient = open && nobody && started.elapsed() < STRANGERS_WAIT;
        let strangers = strangers.into_iter().filter(|_| !patient);
        for peer in whole.into_iter().chain(getting).chain(doubtful) {
            if asking.len() < PARALLEL_HOLDERS && asked.insert(peer) {
                asking.push(ask(peer, Opening::AtOnce));
            }
        }
        for peer in strangers {
            if strangers_left > 0 && asking.len() < PARALLEL && asked.insert(peer) {
                strangers_left -= 1;
                asking.push(ask(peer, Opening::InTurn));
            }
        }
        if asking.is_empty() && !open {
            let unasked = last_resort.into_iter().filter(|peer| asked.insert(*peer));
            asking.extend(
                unasked
                    .map(|peer| ask(peer, Opening::AtOnce))
                    .collect::<Vec<_>>(),
            );
            if asking.is_empty() {
                return Err(MetadataError::Nobody { asked: asked.len() });
            }
        }
        tokio::select! {
            Some((address, result)) = asking.next() => match result {
                Ok(info) => {
                    sources.peers().saw(address, true);
                    return Ok(info);
                }
                Err(error) => {
                    match error {
                        MetadataError::Connect(_) | MetadataError::Unreachable => {
                            sources.peers().saw(address, false);
                        }
                        // It may have to encode the NAR first, and that waits for an upload slot.
                        MetadataError::Silent => sources.peers().answered(address),
                        _ => {
                            sources.peers().answered(address);
                            sources.gossip().disappointed(&info_hash, &address);
                        }
                    }
                    tracing::debug!(%address, %info_hash, %error, "no metadata from this peer");
                }
            },
            more = changes.changed() => if !more {
                return Err(MetadataError::Nobody { asked: asked.len() });
            },
            // Nobody tells when an answer is overdue.
            () = tokio::time::sleep(OVERDUE_CHECK) => {}
        }
    }
}

async fn fetch_from(
    address: SocketAddr,
    info_hash: InfoHash,
    peer_id: [u8; 20],
    opening: Opening,
) -> Result<InfoDict, MetadataError> {
    let connect = timeout(CONNECT_TIMEOUT, TcpStream::connect(address))
        .await
        .map_err(|_| MetadataError::Unreachable)?;
    let stream = connect.map_err(MetadataError::Connect)?;
    let _ = stream.set_nodelay(true);
    timeout(
        ANSWER_TIMEOUT,
        converse(stream, info_hash, peer_id, opening),
    )
    .await
    .map_err(|_| MetadataError::Silent)?
}

async fn converse(
    stream: TcpStream,
    info_hash: InfoHash,
    peer_id: [u8; 20],
    opening: Opening,
) -> Result<InfoDict, MetadataError> {
    let (read, mut write) = stream.into_split();
    let mut reader = PeerReader::new(read);
    let mut out = BytesMut::new();
    messages::put_handshake(&mut out, info_hash, peer_id, false);
    if opening == Opening::AtOnce {
        messages::put_hello(&mut out, &HELLO);
    }
    write.write_all(&out).await.map_err(WireError::from)?;
    let hello = timeout(HANDSHAKE_TIMEOUT, reader.handshake()).await;
    let hello = hello.map_err(|_| MetadataError::Mute)??;
    if hello.info_hash != info_hash {
        return Err(WireError::WrongInfoHash.into());
    }
    if !hello.extended {
        return Err(MetadataError::Unsupported);
    }
    if opening == Opening::InTurn {
        out.clear();
        messages::put_hello(&mut out, &HELLO);
        write.write_all(&out).await.map_err(WireError::from)?;
    }
    let (id, size) = loop {
        if let PeerMessage::Hello {
            ut_metadata,
            metadata_size,
            ..
        } = reader.next().await?
        {
            match (ut_metadata, metadata_size) {
                (Some(id), Some(size)) if size > 0 => break (id, size),
                _ => return Err(MetadataError::Unsupported),
            }
        }
    };
    if size as usize > MAX_INFO_DICT {
        return Err(MetadataError::Size(size));
    }
    let pieces = size.div_ceil(METADATA_PIECE);
    let mut out = BytesMut::new();
    (0..pieces).for_each(|piece| messages::put_metadata_request(&mut out, id, piece));
    write.write_all(&out).await.map_err(WireError::from)?;
    let mut parts: Vec<Option<bytes::Bytes>> = vec![None; pieces as usize];
    while parts.iter().any(Option::is_none) {
        match reader.next().await? {
            PeerMessage::MetadataData {
                piece,
                total_size,
                data,
            } if total_size == size => {
                if let Some(part) = parts.get_mut(piece as usize) {
                    *part = Some(data);
                }
            }
            PeerMessage::MetadataData { .. } | PeerMessage::MetadataReject => {
                return Err(MetadataError::Unsupported);
            }
            _ => {}
        }
    }
    let dict: Vec<u8> = parts.into_iter().flatten().flatten().collect();
    if InfoHash::of(&dict) != info_hash {
        return Err(MetadataError::Hash);
    }
    Ok(InfoDict::decode(&dict)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::discovery::PeerOrigin;
    use crate::swarm::gossip::lab;

    #[tokio::test]
    async fn of_all_strangers_some_are_asked() {
        let place = tempfile::tempdir().unwrap();
        let (peers, gossip) = lab::alone(place.path());
        for i in 0..4 * MAX_STRANGERS {
            // Nobody listens there.
            let nobody = SocketAddr::from(([127, (i / 250) as u8, (i % 250) as u8, 1], 1));
            peers.add(nobody, PeerOrigin::Tracker);
        }
        let sources = Sources::new(peers, gossip);
        let found = fetch(&sources, InfoHash::of(b"a"), [1; 20]).await;
        let asked = match found {
            Err(MetadataError::Nobody { asked }) => asked,
            found => panic!("{found:?}"),
        };
        assert_eq!(asked, MAX_STRANGERS);
    }
}
