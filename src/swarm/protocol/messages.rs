//! The messages that we send (BEP 3, 6, 9, 10, 11), appended to a buffer that leaves in one write.

use std::net::SocketAddr;

use bytes::{BufMut, BytesMut};
use librqbit_buffers::ByteBuf;
use librqbit_core::hash_id::Id20;
use librqbit_peer_protocol::{
    Handshake, Message,
    extended::{
        ExtendedMessage, PeerExtendedMessageIds,
        ut_metadata::{UtMetadata, UtMetadataData},
    },
};

use crate::torrent::{InfoHash, bencode::Writer};

use super::Request;
use super::compact_peers::CompactPeers;
use super::wire::{HANDSHAKE_LEN, ID_HAVE_ALL, RESERVED_FAST};

/// A frame of length 0.
pub const KEEP_ALIVE: [u8; 4] = [0; 4];

const ID_CHOKE: u8 = 0;
const ID_UNCHOKE: u8 = 1;
const ID_HAVE: u8 = 4;
const ID_BITFIELD: u8 = 5;
const ID_PIECE: u8 = 7;
pub const ID_EXTENDED: u8 = 20;
const ID_HAVE_NONE: u8 = 15;
const ID_REJECT: u8 = 16;

/// BEP 10: id 0 under `ID_EXTENDED`.
pub const EXTENSION_HANDSHAKE: u8 = 0;
/// The id under which peers send us ut_metadata messages (BEP 10: the receiver chooses).
pub const OUR_UT_METADATA: u8 = librqbit_peer_protocol::MY_EXTENDED_UT_METADATA;
/// The same for ut_pex.
pub const OUR_UT_PEX: u8 = librqbit_peer_protocol::MY_EXTENDED_UT_PEX;
/// The name of the gossip extension in the extension handshake.
pub const GOSSIP_EXTENSION: &str = "nw1_gossip";
/// The id under which peers send us gossip.
pub const OUR_GOSSIP: u8 = OUR_UT_METADATA + 16;

/// Appends the handshake. Whoever sets `fast` must say HAVE_ALL, HAVE_NONE or a bitfield next (BEP 6).
pub fn put_handshake(out: &mut BytesMut, info_hash: InfoHash, peer_id: [u8; 20], fast: bool) {
    let mut handshake = Handshake::new(Id20::new(*info_hash.as_bytes()), Id20::new(peer_id));
    if fast {
        handshake.reserved |= RESERVED_FAST;
    }
    let at = out.len();
    out.resize(at + HANDSHAKE_LEN, 0);
    let written = handshake.serialize_unchecked_len(&mut out[at..]);
    out.truncate(at + written);
}

pub fn put_choke(out: &mut BytesMut) {
    put_frame(out, ID_CHOKE, &[]);
}

pub fn put_unchoke(out: &mut BytesMut) {
    put_frame(out, ID_UNCHOKE, &[]);
}

pub fn put_have_all(out: &mut BytesMut) {
    put_frame(out, ID_HAVE_ALL, &[]);
}

pub fn put_have_none(out: &mut BytesMut) {
    put_frame(out, ID_HAVE_NONE, &[]);
}

pub fn put_have(out: &mut BytesMut, piece: u32) {
    put_frame(out, ID_HAVE, &piece.to_be_bytes());
}

pub fn put_bitfield(out: &mut BytesMut, bits: &[u8]) {
    put_frame(out, ID_BITFIELD, bits);
}

/// Refuses a request (BEP 6); only for peers with the fast bit.
pub fn put_reject(out: &mut BytesMut, request: &Request) {
    let mut body = [0; 12];
    body[..4].copy_from_slice(&request.index.to_be_bytes());
    body[4..8].copy_from_slice(&request.begin.to_be_bytes());
    body[8..].copy_from_slice(&request.length.to_be_bytes());
    put_frame(out, ID_REJECT, &body);
}

pub fn put_block(out: &mut BytesMut, index: u32, begin: u32, block: &[u8]) {
    out.reserve(13 + block.len());
    out.put_u32(9 + block.len() as u32);
    out.put_u8(ID_PIECE);
    out.put_u32(index);
    out.put_u32(begin);
    out.put_slice(block);
}

pub fn put_frame(out: &mut BytesMut, id: u8, body: &[u8]) {
    out.reserve(5 + body.len());
    out.put_u32(1 + body.len() as u32);
    out.put_u8(id);
    out.put_slice(body);
}

/// What we say of ourselves in the extended handshake.
pub struct OurHello {
    /// Whether we gossip on this connection.
    pub gossip: bool,
    pub port: Option<u16>,
    pub metadata_size: Option<u32>,
    /// How many requests may wait at us; clients keep at most so many in flight.
    pub reqq: u32,
    /// BEP 21: we only upload on this connection.
    pub upload_only: bool,
    /// Whether peers are told of on this connection (BEP 11).
    pub peers: bool,
}

/// The extension handshake (BEP 10). Written here: librqbit's cannot leave out ut_pex, and would announce it.
pub fn put_hello(out: &mut BytesMut, hello: &OurHello) {
    let mut dict = Writer::new();
    dict.open_dict();
    dict.bytes("m");
    dict.open_dict();
    if hello.gossip {
        dict.unsigned_at(GOSSIP_EXTENSION, OUR_GOSSIP.into());
    }
    dict.unsigned_at("ut_metadata", OUR_UT_METADATA.into());
    if hello.peers {
        dict.unsigned_at("ut_pex", OUR_UT_PEX.into());
    }
    dict.close();
    if let Some(size) = hello.metadata_size {
        dict.unsigned_at("metadata_size", size.into());
    }
    if let Some(port) = hello.port {
        dict.unsigned_at("p", port.into());
    }
    dict.unsigned_at("reqq", hello.reqq.into());
    if hello.upload_only {
        dict.unsigned_at("upload_only", 1);
    }
    dict.bytes_at("v", concat!("narswarm ", env!("CARGO_PKG_VERSION")));
    dict.close();
    put_extended(out, EXTENSION_HANDSHAKE, &dict.finish());
}

/// A message of an extension (BEP 10), under the id that the peer chose for it.
pub fn put_extended(out: &mut BytesMut, extension: u8, body: &[u8]) {
    out.reserve(6 + body.len());
    out.put_u32(2 + body.len() as u32);
    out.put_u8(ID_EXTENDED);
    out.put_u8(extension);
    out.put_slice(body);
}

/// A frame without a message (BEP 3).
pub fn put_keep_alive(out: &mut BytesMut) {
    out.extend_from_slice(&KEEP_ALIVE);
}

/// Other peers of the torrent (BEP 11), under the id that the receiver chose.
pub fn put_peers(out: &mut BytesMut, peer_id: u8, peers: &[SocketAddr]) {
    let compact = CompactPeers::of(peers);
    let mut dict = Writer::new();
    dict.open_dict();
    dict.bytes_at("added", &compact.v4);
    dict.bytes_at("added.f", vec![0; compact.v4_count()]);
    dict.bytes_at("added6", &compact.v6);
    dict.bytes_at("added6.f", vec![0; compact.v6_count()]);
    dict.close();
    put_extended(out, peer_id, &dict.finish());
}

/// One 16 KiB piece of the info dict (BEP 9), under the id that the peer chose.
pub fn put_metadata_data(
    out: &mut BytesMut,
    peer_id: u8,
    piece: u32,
    total_size: u32,
    data: &[u8],
) {
    let data = UtMetadataData::from_bytes(piece, total_size, ByteBuf(data));
    put_message(out, UtMetadata::Data(data), peer_id);
}

pub fn put_metadata_request(out: &mut BytesMut, peer_id: u8, piece: u32) {
    put_message(out, UtMetadata::Request(piece), peer_id);
}

pub fn put_metadata_reject(out: &mut BytesMut, peer_id: u8, piece: u32) {
    put_message(out, UtMetadata::Reject(piece), peer_id);
}

/// Serialises one of librqbit's ut_metadata messages. It can only fail for want of space or of the id, and has both.
fn put_message(out: &mut BytesMut, message: UtMetadata<ByteBuf<'_>>, ut_metadata: u8) {
    let at = out.len();
    out.resize(at + librqbit_peer_protocol::MAX_MSG_LEN, 0);
    let ids = || PeerExtendedMessageIds {
        ut_metadata: Some(ut_metadata),
        ut_pex: None,
    };
    let message = Message::Extended(ExtendedMessage::UtMetadata(message));
    let written = message.serialize(&mut out[at..], &ids);
    debug_assert!(written.is_ok(), "{written:?}");
    out.truncate(at + written.unwrap_or(0));
}
