//! Framing of the BitTorrent peer protocol (BEP 3, 6, 9, 10, 11) over any byte stream, bounded before allocation.
//!
//! A frame is `<length: u32 big-endian><id: u8><payload>`; length 0 is a keep-alive. What librqbit-peer-protocol
//! can parse it parses; the messages of BEP 6 and the unknown ones, which it refuses, are sorted out here.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use librqbit_peer_protocol::{
    Handshake, Message, MessageDeserializeError,
    extended::{ExtendedMessage, ut_metadata::UtMetadata},
};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::torrent::{InfoHash, bencode::Reader};

use super::Request;
use super::messages::{GOSSIP_EXTENSION, ID_EXTENDED, OUR_GOSSIP};

/// The largest block that is answered: BEP 3 clients may close above 16 KiB, a few old ones ask for 32.
pub const MAX_REQUEST: u32 = 128 * 1024;
/// The largest frame that is read: a bitfield has 512 bytes (4096 pieces by rule), a metadata piece is 16 KiB.
const MAX_FRAME: usize = 64 * 1024;
/// Addresses that are taken from one PEX message: BEP 11 asks senders for no more.
const MAX_PEX: usize = 100;
/// BEP 6's HAVE_ALL.
pub const ID_HAVE_ALL: u8 = 14;
pub const HANDSHAKE_LEN: usize = 68;
/// Read buffer per connection; grows to `MAX_FRAME` at most.
const READ_BUFFER: usize = 4 * 1024;

/// Reserved bits of the handshake: BEP 10 (extension protocol) and BEP 6 (fast extension).
const RESERVED_EXTENDED: u64 = 1 << 20;
pub const RESERVED_FAST: u64 = 1 << 2;

#[derive(Debug, Error)]
pub enum WireError {
    #[error("reading from the peer: {0}")]
    Io(#[from] io::Error),
    #[error("the peer closed the connection")]
    Closed,
    #[error("the peer sent a frame of {0} bytes, the limit is {MAX_FRAME}")]
    TooLarge(usize),
    #[error("the peer sent something that is not a BitTorrent message: {0}")]
    Malformed(#[from] MessageDeserializeError),
    #[error("the peer answered for another torrent")]
    WrongInfoHash,
}

/// What the other side said in its handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerHello {
    /// All of it, to be handed on.
    pub bytes: [u8; HANDSHAKE_LEN],
    pub info_hash: InfoHash,
    pub peer_id: [u8; 20],
    pub extended: bool,
    pub fast: bool,
}

/// A message as far as a seeder or a metadata fetch cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerMessage {
    Request(Request),
    /// Takes a request back.
    Cancel(Request),
    Interested(bool),
    Have(u32),
    Bitfield(Bytes),
    HaveAll,
    Hello {
        ut_metadata: Option<u8>,
        metadata_size: Option<u32>,
        ut_pex: Option<u8>,
        /// Where the sender itself is reached.
        port: Option<u16>,
        /// The id under which it wants gossip.
        gossip: Option<u8>,
    },
    /// A gossip message, still encoded.
    Gossip(Bytes),
    /// Peers of this torrent that the sender knows (BEP 11).
    Peers(Vec<SocketAddr>),
    MetadataRequest(u32),
    MetadataData {
        piece: u32,
        total_size: u32,
        data: Bytes,
    },
    MetadataReject,
    Other,
}

/// The reading half of a peer connection.
pub struct PeerReader<R> {
    inner: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> PeerReader<R> {
    pub fn new(inner: R) -> Self {
        Self {
            inner,
            buffer: BytesMut::with_capacity(READ_BUFFER),
        }
    }

    pub fn get_ref(&self) -> &R {
        &self.inner
    }

    /// The stream, and what was read of it and not taken.
    pub fn into_parts(self) -> (R, BytesMut) {
        (self.inner, self.buffer)
    }

    /// Reads the 68 bytes that open a connection.
    pub async fn handshake(&mut self) -> Result<PeerHello, WireError> {
        while self.buffer.len() < HANDSHAKE_LEN {
            // The first byte tells a stranger at once: it need not send 68 bytes to be dropped.
            if self.buffer.first().is_some_and(|b| *b != 19) {
                Handshake::deserialize(&[self.buffer[0]; HANDSHAKE_LEN])?;
            }
            self.fill().await?;
        }
        let mut bytes = [0; HANDSHAKE_LEN];
        self.buffer.copy_to_slice(&mut bytes);
        let (handshake, _) = Handshake::deserialize(&bytes)?;
        Ok(PeerHello {
            bytes,
            peer_id: handshake.peer_id.0,
            info_hash: InfoHash::from_bytes(handshake.info_hash.0),
            extended: handshake.reserved & RESERVED_EXTENDED != 0,
            fast: handshake.reserved & RESERVED_FAST != 0,
        })
    }

    /// The next message. Cancel safe: a half-read frame stays in the buffer.
    pub async fn next(&mut self) -> Result<PeerMessage, WireError> {
        loop {
            if let Some(message) = self.buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next message that has already arrived, if there is one.
    pub fn buffered(&mut self) -> Result<Option<PeerMessage>, WireError> {
        let Some(prefix) = self.buffer.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*prefix) as usize;
        if length > MAX_FRAME {
            return Err(WireError::TooLarge(length));
        }
        if self.buffer.len() < 4 + length {
            self.buffer.reserve(4 + length - self.buffer.len());
            return Ok(None);
        }
        let frame = self.buffer.split_to(4 + length).freeze();
        decode(frame).map(Some)
    }

    async fn fill(&mut self) -> Result<(), WireError> {
        self.buffer.reserve(READ_BUFFER);
        match self.inner.read_buf(&mut self.buffer).await? {
            0 => Err(WireError::Closed),
            _ => Ok(()),
        }
    }
}

pub fn decode(frame: Bytes) -> Result<PeerMessage, WireError> {
    if frame.get(4..6) == Some(&[ID_EXTENDED, OUR_GOSSIP]) {
        return Ok(PeerMessage::Gossip(frame.slice(6..)));
    }
    let message = match Message::deserialize(&frame, &[]) {
        Ok((message, _)) => message,
        Err(MessageDeserializeError::UnsupportedMessageId(ID_HAVE_ALL)) => {
            return Ok(PeerMessage::HaveAll);
        }
        // BEP 5's PORT, the rest of BEP 6 and whatever comes later: not for us, and no reason to hang up.
        Err(MessageDeserializeError::UnsupportedMessageId(_)) => return Ok(PeerMessage::Other),
        Err(error) => return Err(error.into()),
    };
    Ok(match message {
        Message::Request(r) => PeerMessage::Request(request(r)),
        Message::Cancel(r) => PeerMessage::Cancel(request(r)),
        Message::Interested => PeerMessage::Interested(true),
        Message::NotInterested => PeerMessage::Interested(false),
        Message::Have(piece) => PeerMessage::Have(piece),
        Message::Bitfield(bits) => PeerMessage::Bitfield(Bytes::copy_from_slice(bits.as_ref())),
        Message::Extended(ExtendedMessage::Handshake(hello)) => PeerMessage::Hello {
            ut_metadata: hello.m.ut_metadata.filter(|id| *id != 0),
            metadata_size: hello.metadata_size,
            ut_pex: hello.m.ut_pex.filter(|id| *id != 0),
            port: hello
                .p
                .and_then(|port| u16::try_from(port).ok())
                .filter(|port| *port != 0),
            gossip: gossip_id(&frame[6..]),
        },
        Message::Extended(ExtendedMessage::UtPex(pex)) => PeerMessage::Peers(
            pex.added_peers()
                .map(|peer| peer.addr)
                .take(MAX_PEX)
                .collect(),
        ),
        Message::Extended(ExtendedMessage::UtMetadata(UtMetadata::Request(piece))) => {
            PeerMessage::MetadataRequest(piece)
        }
        Message::Extended(ExtendedMessage::UtMetadata(UtMetadata::Reject(_))) => {
            PeerMessage::MetadataReject
        }
        Message::Extended(ExtendedMessage::UtMetadata(UtMetadata::Data(data))) => {
            let mut bytes = BytesMut::zeroed(data.len());
            data.copy_to_slice(&mut bytes);
            PeerMessage::MetadataData {
                piece: data.piece(),
                total_size: total_size(&frame),
                data: bytes.freeze(),
            }
        }
        _ => PeerMessage::Other,
    })
}

fn request(parsed: librqbit_peer_protocol::Request) -> Request {
    let librqbit_peer_protocol::Request {
        index,
        begin,
        length,
    } = parsed;
    Request {
        index,
        begin,
        length,
    }
}

/// The id of the gossip extension in an extension handshake, of which librqbit reads only the extensions that it knows.
/// Those who gossip write canonical bencode.
fn gossip_id(handshake: &[u8]) -> Option<u8> {
    let mut reader = Reader::new(handshake);
    reader.open_dict().ok()?;
    reader.optional_key("m").ok().filter(|found| *found)?;
    reader.open_dict().ok()?;
    let mut previous = None;
    while !reader.at_close() {
        let name = reader.next_key(previous).ok()?;
        if name == GOSSIP_EXTENSION.as_bytes() {
            let id = reader.unsigned(u8::MAX.into()).ok()?;
            return u8::try_from(id).ok().filter(|id| *id != 0);
        }
        reader.skip().ok()?;
        previous = Some(name);
    }
    None
}

/// librqbit-peer-protocol checks `total_size` against the data but does not hand it out.
fn total_size(frame: &[u8]) -> u32 {
    const KEY: &[u8] = b"10:total_sizei";
    let digits = frame
        .windows(KEY.len())
        .position(|w| w == KEY)
        .map(|at| &frame[at + KEY.len()..]);
    let digits = digits
        .unwrap_or_default()
        .iter()
        .take_while(|b| b.is_ascii_digit());
    digits.fold(0u32, |n, b| {
        n.saturating_mul(10).saturating_add(u32::from(b - b'0'))
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests;
