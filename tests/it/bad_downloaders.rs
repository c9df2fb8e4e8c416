//! Whatever downloaders send, the seeder stays small and serves the honest ones.

use std::{io::Write as _, thread, time::Duration};

use crate::lab::{LoneNar, Node, RawPeer, raw_host};

const SIZE: u64 = 6_000_000;
/// A seeder with a full cache of frames has about 120 MB.
const MEMORY: u64 = 250_000_000;
const CONNECTIONS: usize = 1000;
const FLOOD: usize = 20_000;

#[test]
fn hostile_downloaders_are_hung_up_on_and_honest_ones_served() {
    let test = "hostile_downloaders_are_hung_up_on_and_honest_ones_served";
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let seedbox = Node::start(&lone.seedbox("seedbox"));
    seedbox.wait_for_offer(1);
    let info = &lone.payload.info;
    let (info_hash, last) = (info.info_hash(), info.piece_count() - 1);
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info_hash).unwrap();

    // Noise instead of a handshake.
    let mut noise = RawPeer::connect(raw_host(2), seedbox.peer).unwrap();
    noise.0.write_all(&[0xaa; 4096]).unwrap();
    assert!(noise.is_hung_up_on());
    // A request for what does not exist.
    for (piece, begin, length) in [
        (last + 1, 0, 16384),
        (0, u32::MAX, 2),
        (0, 0, 0),
        (0, 0, 1 << 20),
    ] {
        let mut peer = meet(3);
        peer.request(piece, begin, length).unwrap();
        assert!(peer.is_hung_up_on(), "{piece} {begin}+{length}");
    }
    // A frame of 4 GB, and an extension message that nests without end.
    let mut peer = meet(4);
    peer.0.write_all(&[0xff; 8]).unwrap();
    assert!(peer.is_hung_up_on());
    let nested = [&[0, b'd', b'1', b':', b'a'][..], &[b'l'; 60_000]].concat();
    let mut peer = meet(5);
    peer.send(20, &nested).unwrap();
    assert!(peer.is_hung_up_on());
    // Requests without end from one that never reads: it is served no faster than it reads.
    let mut flood = meet(6);
    let flooding = thread::spawn(move || {
        flood
            .0
            .set_write_timeout(Some(Duration::from_secs(2)))
            .unwrap();
        for _ in 0..FLOOD {
            if flood.request(0, 0, 16384).is_err() {
                break;
            }
        }
        flood
    });
    // Some say one byte and wait, the others nothing at all.
    let crowd: Vec<RawPeer> = (0..CONNECTIONS)
        .filter_map(|i| {
            let mut peer = RawPeer::connect(raw_host(7), seedbox.peer).ok()?;
            if i % 2 == 0 {
                let _ = peer.0.write_all(&[19]);
            }
            Some(peer)
        })
        .collect();

    let agent = Node::start(&lone.agent("agent").peer(seedbox.peer));
    lone.check(&agent);
    let memory = seedbox.peak_memory();
    assert!(memory < MEMORY, "{memory} bytes");
    assert_eq!(seedbox.status()["offer"]["paths"], 1);
    drop((flooding.join().unwrap(), crowd));
}
