//! Whatever downloaders send, the seeder stays small and serves the honest ones.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::lab::{LoneNar, Node, RawPeer, raw_host, wait_for};

const SIZE: u64 = 6_000_000;
/// A seeder with a full cache of frames has about 120 MB.
const MEMORY: u64 = 250_000_000;
const CONNECTIONS: usize = 1000;
const FLOOD: usize = 20_000;
/// BEP 3: a block.
const PIECE: u8 = 7;

#[test]
fn hostile_downloaders_are_hung_up_on_and_honest_ones_served() {
    let test = "hostile_downloaders_are_hung_up_on_and_honest_ones_served";
    let Some((lone, seedbox)) = LoneNar::seeded(test, SIZE, |seedbox| seedbox) else {
        return;
    };
    let info = &lone.payload.info;
    let (info_hash, last) = (info.info_hash(), info.piece_count() - 1);
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info_hash).unwrap();

    // Noise instead of a handshake.
    let mut noise = RawPeer::connect(raw_host(2), seedbox.peer).unwrap();
    noise.0.write_all(&[0xaa; 4096]).unwrap();
    assert!(noise.is_hung_up_on());
    // A question to the tracker that has no end.
    let mut question = RawPeer::connect(raw_host(2), seedbox.peer).unwrap();
    let _ = question.0.write_all(b"GET /announce?info_hash=");
    let _ = question.0.write_all(&[b'a'; 1 << 20]);
    assert!(question.is_hung_up_on());
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

/// More pieces than are kept for everybody, so that most peers get one that was made for them.
const LARGE: u64 = 80_000_000;
const RESTING: u32 = 900;
const RESTING_EACH: u32 = 100;
/// All of the pieces are 236 MB; without them it is 110.
const MORE_MEMORY: u64 = 180_000_000;

#[test]
fn peers_that_got_a_block_and_rest_hold_no_piece() {
    let test = "peers_that_got_a_block_and_rest_hold_no_piece";
    let Some((lone, seedbox)) = LoneNar::seeded(test, LARGE, |seedbox| seedbox) else {
        return;
    };
    let info = &lone.payload.info;
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info.info_hash()).unwrap();
    // What the seedbox keeps for everybody is there before.
    let mut first = meet(2);
    for piece in 0..info.piece_count() {
        first.piece(piece, info.piece_len(piece)).unwrap();
    }
    let before = seedbox.peak_memory();
    let resting: Vec<RawPeer> = (0..RESTING)
        .map(|i| {
            let mut peer = meet(10 + (i / RESTING_EACH) as u8);
            peer.request(i % info.piece_count(), 0, 16384).unwrap();
            while peer.next().unwrap().0 != PIECE {}
            peer
        })
        .collect();
    let connected = seedbox.status()["swarm"]["uploading_to"].as_u64();
    assert_eq!(connected, Some(u64::from(RESTING) + 1));
    let more = seedbox.peak_memory() - before;
    assert!(more < MORE_MEMORY, "{more} bytes for {RESTING} peers");
    drop(resting);
}

/// So many requests for one byte of a piece, wherever in it, count for as many blocks of 16 KiB.
const SLIVERS: u32 = 64;

#[test]
fn slivers_cost_what_blocks_cost() {
    let Some((lone, seedbox)) = LoneNar::seeded("slivers_cost_what_blocks_cost", SIZE, |seedbox| {
        seedbox.upload_limit("500kB/s")
    }) else {
        return;
    };
    let info = &lone.payload.info;
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash()).unwrap();
    let start = Instant::now();
    for begin in [0, info.piece_len(0) - 1].repeat(SLIVERS as usize / 2) {
        peer.request(0, begin, 1).unwrap();
    }
    let mut left = SLIVERS;
    while left > 0 {
        left -= u32::from(peer.next().unwrap().0 == PIECE);
    }
    // 1 MB at 0.5 MB/s, less what may go at once.
    assert!(
        start.elapsed() > Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

/// Few places, so that a test can take them all: two for each address, and half of them without a handshake.
const PLACES: usize = 16;
const PER_ADDRESS: usize = 2;
const HALF_OPEN: usize = 8;
/// Whoever asked for something in the last 5 s is not idle.
const IDLE: Duration = Duration::from_secs(20);

#[test]
fn those_without_a_handshake_make_room_for_each_other_alone() {
    let test = "those_without_a_handshake_make_room_for_each_other_alone";
    let Some((lone, seedbox)) =
        LoneNar::seeded(test, 100_000, |seedbox| seedbox.connections(PLACES))
    else {
        return;
    };
    let info_hash = lone.payload.info.info_hash();
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info_hash).unwrap();
    let mut early = meet(2);
    let connect = |i| RawPeer::connect(raw_host(10 + i as u8), seedbox.peer).unwrap();
    let mut silent: Vec<RawPeer> = (0..3 * HALF_OPEN).map(connect).collect();
    // Long before the 10 s that a handshake may take.
    let start = Instant::now();
    let mut gone = silent.iter_mut().take(2 * HALF_OPEN);
    assert!(gone.all(RawPeer::is_hung_up_on));
    let mut late = meet(3);
    assert!(start.elapsed() < Duration::from_secs(8));
    let length = lone.payload.info.piece_len(0);
    for peer in [&mut early, &mut late] {
        assert!(peer.piece(0, length).unwrap() == lone.payload.bytes[..length as usize]);
    }
}

#[test]
fn the_longest_idle_makes_room_when_all_places_are_taken() {
    let test = "the_longest_idle_makes_room_when_all_places_are_taken";
    let Some((lone, seedbox)) =
        LoneNar::seeded(test, 100_000, |seedbox| seedbox.connections(PLACES))
    else {
        return;
    };
    let info = &lone.payload.info;
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info.info_hash());
    let mut idle = vec![meet(10).unwrap()];
    // From here on the info dict is known: nobody waits for it.
    idle[0].piece(0, info.piece_len(0)).unwrap();
    idle.extend((1..PLACES).map(|i| meet(10 + (i / PER_ADDRESS) as u8).unwrap()));
    assert!(meet(50).is_err(), "all of them have only just come");
    let mut newcomer = wait_for("place for a newcomer", IDLE, || {
        // The first of them keeps asking.
        idle[0].piece(0, info.piece_len(0)).unwrap();
        meet(50).ok()
    });
    assert!(newcomer.piece(0, info.piece_len(0)).is_ok());
    assert!(idle[1].is_hung_up_on(), "the first that asked for nothing");
    for peer in &mut idle[2..4] {
        assert!(
            peer.piece(0, info.piece_len(0)).is_ok(),
            "one place was enough"
        );
    }
}
