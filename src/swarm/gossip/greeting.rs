//! How a topic connection begins: with the handshakes of an ordinary peer, then those of the extension.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use crate::swarm::protocol::messages::{self, OurHello};
use crate::swarm::protocol::{Incoming, PeerMessage, PeerReader, WireError};
use crate::torrent::InfoHash;

use super::connection::ConnectionError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the handshake to the extension handshake.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);

/// A peer that speaks our extension, after both handshakes.
pub struct Greeted {
    pub peer_id: [u8; 20],
    /// The id under which it wants our messages.
    pub extension: u8,
    pub reader: PeerReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
}

impl Greeted {
    /// Answers one that came in on the topic.
    pub async fn answer(peer: Incoming, our_id: [u8; 20]) -> Result<Self, ConnectionError> {
        let mut out = BytesMut::new();
        messages::put_handshake(&mut out, peer.hello.info_hash, our_id, true);
        if peer.hello.fast {
            messages::put_have_none(&mut out);
        }
        if !peer.hello.extended {
            return Err(ConnectionError::Stock);
        }
        put_extensions(&mut out);
        Self::finish(peer, out, our_id).await
    }

    /// Opens a connection to `address`. Without the fast bit: then nothing need be said of pieces.
    pub async fn dial(
        address: SocketAddr,
        topic: InfoHash,
        our_id: [u8; 20],
    ) -> Result<Self, ConnectionError> {
        let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await;
        let stream = connected.map_err(|_| ConnectionError::Silent)?;
        let mut stream = stream.map_err(ConnectionError::Connect)?;
        let mut out = BytesMut::new();
        messages::put_handshake(&mut out, topic, our_id, false);
        put_extensions(&mut out);
        stream.write_all(&out).await.map_err(WireError::from)?;
        let peer = Incoming::read(stream).await?;
        if peer.hello.info_hash != topic {
            return Err(WireError::WrongInfoHash.into());
        }
        Self::finish(peer, BytesMut::new(), our_id).await
    }

    async fn finish(
        peer: Incoming,
        out: BytesMut,
        our_id: [u8; 20],
    ) -> Result<Self, ConnectionError> {
        let Incoming {
            hello,
            mut reader,
            mut write,
            ..
        } = peer;
        write.write_all(&out).await.map_err(WireError::from)?;
        if hello.peer_id == our_id {
            return Err(ConnectionError::Ourselves);
        }
        let extension = async {
            loop {
                if let PeerMessage::Hello { gossip, .. } = reader.next().await? {
                    return gossip.ok_or(ConnectionError::Stock);
                }
            }
        };
        let extension = timeout(GREETING_TIMEOUT, extension)
            .await
            .map_err(|_| ConnectionError::Silent)??;
        Ok(Self {
            peer_id: hello.peer_id,
            extension,
            reader,
            write,
        })
    }
}

/// Who answers on the topic at `address`; it is left alone after that.
pub async fn peer_id_at(
    address: SocketAddr,
    topic: InfoHash,
    our_id: [u8; 20],
) -> Result<[u8; 20], ConnectionError> {
    let stream = TcpStream::connect(address).await;
    let mut stream = stream.map_err(ConnectionError::Connect)?;
    let mut out = BytesMut::new();
    messages::put_handshake(&mut out, topic, our_id, false);
    stream.write_all(&out).await.map_err(WireError::from)?;
    Ok(Incoming::read(stream).await?.hello.peer_id)
}

fn put_extensions(out: &mut BytesMut) {
    let hello = OurHello {
        gossip: true,
        port: None,
        metadata_size: None,
        reqq: 1,
        upload_only: false,
        peers: false,
    };
    messages::put_hello(out, &hello);
}
