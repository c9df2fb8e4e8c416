use super::super::messages::{
    OUR_UT_METADATA, OUR_UT_PEX, OurHello, put_bitfield, put_extended, put_frame, put_handshake,
    put_have, put_have_all, put_have_none, put_hello, put_metadata_data, put_metadata_reject,
    put_metadata_request, put_peers,
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
    for id in [6, 8] {
        out.extend_from_slice(&[0, 0, 0, 13, id, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]);
    }
    let request = Request {
        index: 1,
        begin: 2,
        length: 3,
    };
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
        PeerMessage::Request(request),
        PeerMessage::Cancel(request),
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
