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
    Request {
        index: u32,
        begin: u32,
        length: u32,
    },
    /// Takes a request back.
    Cancel {
        index: u32,
        begin: u32,
        length: u32,
    },
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

fn decode(frame: Bytes) -> Result<PeerMessage, WireError> {
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
        Message::Request(r) => PeerMessage::Request {
            index: r.index,
            begin: r.begin,
            length: r.length,
        },
        Message::Cancel(r) => PeerMessage::Cancel {
            index: r.index,
            begin: r.begin,
            length: r.length,
        },
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
mod tests {
    use super::super::messages::{
        OUR_UT_METADATA, OUR_UT_PEX, OurHello, put_bitfield, put_extended, put_frame,
        put_handshake, put_have, put_have_all, put_have_none, put_hello, put_metadata_data,
        put_metadata_reject, put_metadata_request, put_peers,
    };
    use super::*;

    fn reader(bytes: &[u8]) -> PeerReader<&[u8]> {
        PeerReader::new(bytes)
    }

    #[tokio::test]
    async fn handshake_round_trips() {
        let hash = InfoHash::from_bytes([7; 20]);
        let mut out = BytesMut::new();
        put_handshake(&mut out, hash, [1; 20], true);
        let hello = reader(&out).handshake().await.unwrap();
        assert_eq!(
            hello,
            PeerHello {
                bytes: out[..].try_into().unwrap(),
                info_hash: hash,
                peer_id: [1; 20],
                extended: true,
                fast: true
            }
        );
    }

    #[tokio::test]
    async fn a_stranger_is_dropped_at_its_first_byte() {
        assert!(matches!(
            reader(b"GET / HTTP/1.1\r\n").handshake().await,
            Err(WireError::Malformed(_))
        ));
    }

    #[tokio::test]
    async fn messages_round_trip() {
        let mut out = BytesMut::new();
        put_hello(
            &mut out,
            &OurHello {
                gossip: true,
                port: Some(6881),
                metadata_size: Some(123),
                reqq: 250,
                upload_only: true,
                peers: true,
            },
        );
        let peers: Vec<SocketAddr> = vec![
            "192.0.2.1:6881".parse().unwrap(),
            "[2001:db8::1]:66".parse().unwrap(),
        ];
        put_peers(&mut out, OUR_UT_PEX, &peers);
        put_have(&mut out, 9);
        put_bitfield(&mut out, &[0xf0]);
        put_metadata_data(&mut out, OUR_UT_METADATA, 0, 5, b"hello");
        put_metadata_request(&mut out, OUR_UT_METADATA, 3);
        put_metadata_reject(&mut out, OUR_UT_METADATA, 3);
        put_extended(&mut out, OUR_GOSSIP, b"de");
        put_have_all(&mut out);
        put_have_none(&mut out);
        out.extend_from_slice(&[0, 0, 0, 13, 6, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
        let mut reader = reader(&out);
        let expected = [
            PeerMessage::Hello {
                ut_metadata: Some(OUR_UT_METADATA),
                metadata_size: Some(123),
                ut_pex: Some(OUR_UT_PEX),
                port: Some(6881),
                gossip: Some(OUR_GOSSIP),
            },
            PeerMessage::Peers(peers),
            PeerMessage::Have(9),
            PeerMessage::Bitfield(Bytes::from_static(&[0xf0])),
            PeerMessage::MetadataData {
                piece: 0,
                total_size: 5,
                data: Bytes::from_static(b"hello"),
            },
            PeerMessage::MetadataRequest(3),
            PeerMessage::MetadataReject,
            PeerMessage::Gossip(Bytes::from_static(b"de")),
            PeerMessage::HaveAll,
            PeerMessage::Other,
            PeerMessage::Request {
                index: 1,
                begin: 2,
                length: 3,
            },
        ];
        for message in expected {
            assert_eq!(reader.next().await.unwrap(), message);
        }
        assert!(matches!(reader.next().await, Err(WireError::Closed)));
    }

    #[tokio::test]
    async fn oversized_and_deeply_nested_frames_are_refused() {
        assert!(matches!(
            reader(&[0xff; 8]).next().await,
            Err(WireError::TooLarge(_))
        ));
        let mut bomb = BytesMut::new();
        let mut body = vec![0, b'd', b'1', b':', b'a'];
        body.resize(60_000, b'l');
        put_frame(&mut bomb, 20, &body);
        assert!(matches!(
            reader(&bomb).next().await,
            Err(WireError::Malformed(_))
        ));
    }
}
