//! Whatever bytes a peer sends, and however its stream is cut: the same messages, or an error; no panic, and never more
//! memory than a frame may take.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use tokio::io::{AsyncRead, ReadBuf};

use super::super::messages::{
    OUR_GOSSIP, OUR_UT_METADATA, OUR_UT_PEX, OurHello, put_bitfield, put_block, put_extended,
    put_frame, put_handshake, put_have, put_have_all, put_have_none, put_hello, put_keep_alive,
    put_metadata_data, put_metadata_reject, put_metadata_request, put_peers, put_reject,
};
use super::{MAX_FRAME, MAX_PEX, PeerMessage, PeerReader, Request};
use crate::torrent::InfoHash;

/// The buffer doubles when it grows.
const MAX_BUFFER: usize = 4 * MAX_FRAME;
const KINDS: u8 = 15;

/// Bytes that come in parts of these sizes, again and again.
struct Parts {
    left: Bytes,
    sizes: Vec<usize>,
    next: usize,
}

impl AsyncRead for Parts {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let size = self.sizes.get(self.next).copied().unwrap_or(usize::MAX);
        self.next = (self.next + 1) % self.sizes.len().max(1);
        let size = size.min(self.left.len()).min(into.remaining());
        into.put_slice(&self.left.split_to(size));
        Poll::Ready(Ok(()))
    }
}

/// A message of each kind that goes over the wire, made of what is at hand.
fn put(out: &mut BytesMut, kind: u8, number: u32, bytes: &[u8]) {
    match kind {
        0 => put_hello(
            out,
            &OurHello {
                gossip: number.is_multiple_of(2),
                port: Some(number as u16),
                metadata_size: Some(number),
                reqq: number,
                upload_only: true,
                peers: true,
            },
        ),
        1 => {
            let peers = bytes.chunks_exact(6).map(|part| {
                let address: [u8; 4] = part[..4].try_into().unwrap();
                SocketAddr::from((address, u16::from_be_bytes([part[4], part[5]])))
            });
            put_peers(out, OUR_UT_PEX, &peers.collect::<Vec<_>>());
        }
        2 => put_have(out, number),
        3 => put_bitfield(out, bytes),
        4 => put_metadata_data(out, OUR_UT_METADATA, number, bytes.len() as u32, bytes),
        5 => put_metadata_request(out, OUR_UT_METADATA, number),
        6 => put_metadata_reject(out, OUR_UT_METADATA, number),
        7 => put_extended(out, OUR_GOSSIP, bytes),
        8 => put_have_all(out),
        9 => put_have_none(out),
        10 => put_reject(
            out,
            &Request {
                index: number,
                begin: number,
                length: number,
            },
        ),
        11 => put_block(out, number, 0, bytes),
        12 => put_keep_alive(out),
        // A request, and whatever another program may say.
        13 => put_frame(out, 6, &[number; 3].map(u32::to_be_bytes).concat()),
        _ => put_frame(out, number as u8, bytes),
    }
}

fn conversation() -> impl Strategy<Value = BytesMut> {
    let message = (0..KINDS, any::<u32>(), vec(any::<u8>(), 0..60));
    vec(message, 0..12).prop_map(|messages| {
        let mut out = BytesMut::new();
        put_handshake(&mut out, InfoHash::from_bytes([7; 20]), [1; 20], true);
        for (kind, number, bytes) in messages {
            put(&mut out, kind, number, &bytes);
        }
        out
    })
}

/// All messages up to the end or the first error, and whether memory stayed within bounds.
fn read(bytes: Bytes, sizes: Vec<usize>) -> (Vec<PeerMessage>, String) {
    let parts = Parts {
        left: bytes,
        sizes,
        next: 0,
    };
    let mut reader = PeerReader::new(parts);
    let mut messages = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    let error = runtime.unwrap().block_on(async {
        let hello = reader.handshake().await;
        if let Err(error) = hello {
            return error;
        }
        loop {
            let message = match reader.next().await {
                Ok(message) => message,
                Err(error) => return error,
            };
            assert!(reader.buffer.capacity() <= MAX_BUFFER);
            assert!(weight(&message) <= MAX_FRAME);
            messages.push(message);
        }
    });
    (messages, error.to_string())
}

fn weight(message: &PeerMessage) -> usize {
    match message {
        PeerMessage::Bitfield(bytes) | PeerMessage::Gossip(bytes) => bytes.len(),
        PeerMessage::MetadataData { data, .. } => data.len(),
        PeerMessage::Peers(peers) => {
            assert!(peers.len() <= MAX_PEX);
            size_of_val(&peers[..])
        }
        _ => 0,
    }
}

proptest! {
    #[test]
    fn a_conversation_says_the_same_however_it_is_cut(said in conversation(), sizes in vec(1usize..200, 1..8)) {
        let said = said.freeze();
        prop_assert_eq!(read(said.clone(), sizes), read(said, vec![]));
    }

    #[test]
    fn a_spoilt_conversation_ends_in_an_error(
        mut said in conversation().prop_map(|said| said.to_vec()),
        spoilt in vec((any::<Index>(), 0usize..6, vec(any::<u8>(), 0..6)), 1..5),
        sizes in vec(1usize..200, 1..8),
    ) {
        for (at, length, other) in spoilt {
            let at = at.index(said.len());
            let end = (at + length).min(said.len());
            said.splice(at..end, other);
        }
        read(said.into(), sizes);
    }

    #[test]
    fn any_bytes_are_a_message_or_an_error(bytes in vec(any::<u8>(), 0..2000), id in 0u8..24, sizes in vec(1usize..200, 1..8)) {
        read(bytes.clone().into(), sizes.clone());
        let mut said = BytesMut::new();
        put_handshake(&mut said, InfoHash::from_bytes([7; 20]), [1; 20], true);
        put_frame(&mut said, id, &bytes);
        read(said.freeze(), sizes);
    }
}
