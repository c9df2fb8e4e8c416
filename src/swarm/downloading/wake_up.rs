//! Wakes librqbit's idle request loops when a peer got a new piece: they look for one every 5 s only, not on HAVE.
//!
//! A workaround, to be dropped when librqbit wakes on HAVE. Its loops also wake when a peer dies that had a piece
//! reserved. So one does: it connects to librqbit's loopback listener, offers the missing pieces and hangs up at the
//! first request. Always from one source port, because librqbit remembers each dead peer.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::torrent::Bitfield;

use crate::swarm::payloads::PartFile;
use crate::swarm::protocol::{PeerId, PeerMessage, PeerReader, WireError, messages};

/// At most ten times a second; what is offered in between is found by the same wake-up.
const PAUSE: Duration = Duration::from_millis(100);
/// librqbit asks at once when there is a piece that nobody fetches yet.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(50);

pub struct WakeUp {
    /// librqbit's loopback listener.
    pub listener: SocketAddr,
    pub part: Arc<PartFile>,
    /// Notified when there is a reason to wake up.
    pub offered: Arc<Notify>,
}

impl WakeUp {
    /// Wakes whenever something is offered, until dropped.
    pub async fn run(self) {
        let peer_id = *PeerId::random().as_bytes();
        let mut port = 0;
        loop {
            self.offered.notified().await;
            match self.wake(peer_id, port).await {
                Ok(used) => port = used,
                Err(error) => {
                    tracing::debug!(%error, "librqbit could not be woken");
                    port = 0;
                }
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Returns the source port, for the next time.
    async fn wake(&self, peer_id: [u8; 20], port: u16) -> Result<u16, WireError> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
        let port = socket.local_addr()?.port();
        let stream = socket.connect(self.listener).await?;
        stream.set_nodelay(true)?;
        // Ends with a reset: the port is free again at once.
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        let (read, mut write) = stream.into_split();
        let mut out = BytesMut::new();
        messages::put_handshake(&mut out, self.part.info_hash(), peer_id, false);
        messages::put_bitfield(&mut out, missing(&self.part.have()).as_bytes());
        messages::put_unchoke(&mut out);
        write.write_all(&out).await?;
        let mut reader = PeerReader::new(read);
        let asked = async {
            reader.handshake().await?;
            while !matches!(reader.next().await?, PeerMessage::Request(_)) {}
            Ok::<_, WireError>(())
        };
        // Nothing is asked when every missing piece is being fetched already.
        let _: Result<_, _> = timeout(ANSWER_TIMEOUT, asked).await;
        Ok(port)
    }
}

fn missing(have: &Bitfield) -> Bitfield {
    let mut missing = Bitfield::new(have.piece_count());
    for piece in (0..have.piece_count()).filter(|piece| !have.get(*piece)) {
        missing.set(piece);
    }
    missing
}
