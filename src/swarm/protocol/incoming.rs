//! A connection up to its peer's handshake: by the info hash it is told what it is for.

use std::io;
use std::time::Duration;

use socket2::SockRef;
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::wire::{PeerHello, PeerReader, WireError};

/// A peer that says nothing for so long in its handshake holds a place for nothing.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
pub enum IncomingError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the peer sent no handshake in time")]
    Silent,
}

/// A peer after its handshake.
pub struct Incoming {
    pub hello: PeerHello,
    pub reader: PeerReader<OwnedReadHalf>,
    pub write: OwnedWriteHalf,
    /// Whether our handshake has been sent already.
    pub greeted: bool,
}

impl Incoming {
    /// Reads the handshake.
    pub async fn read(stream: TcpStream) -> Result<Self, IncomingError> {
        // Both only make small NARs fast; a socket that refuses them still works.
        let _ = stream.set_nodelay(true);
        quick_ack(&stream);
        let (read, write) = stream.into_split();
        let mut reader = PeerReader::new(read);
        let hello = timeout(HANDSHAKE_TIMEOUT, reader.handshake())
            .await
            .map_err(|_| IncomingError::Silent)??;
        Ok(Self {
            hello,
            reader,
            write,
            greeted: false,
        })
    }
}

/// What the connection begins with; the byte is still there to be read.
pub async fn first_byte(stream: &TcpStream) -> Result<u8, IncomingError> {
    let mut first = [0];
    let peeked = timeout(HANDSHAKE_TIMEOUT, stream.peek(&mut first));
    match peeked.await.map_err(|_| IncomingError::Silent)? {
        Ok(0) => Err(WireError::Closed.into()),
        Ok(_) => Ok(first[0]),
        Err(error) => Err(WireError::from(error).into()),
    }
}

/// Acknowledges at once. Linux forgets this after a few packets, so it is said again after each read.
pub fn quick_ack(stream: &TcpStream) {
    let _: io::Result<()> = SockRef::from(stream).set_tcp_quickack(true);
}
