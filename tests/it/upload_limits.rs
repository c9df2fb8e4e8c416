//! What leaves keeps to its limits: the hour's, and each address's. A reload changes them at once, and a restart forgets
//! nothing of what was given.

use std::{
    io::Write as _,
    thread,
    time::{Duration, Instant},
};

use crate::lab::{LoneNar, Node, RawPeer, raw_host, wait_for};

const SIZE: u64 = 3_000_000;
const SLOW: &str = "500kB/s";
/// Half a megabyte may leave at once, the rest takes 5 s.
const AT_LEAST: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a whole payload takes.
fn download(lone: &LoneNar, seedbox: &Node, host: u8) -> Duration {
    let (info, bytes) = (&lone.payload.info, &lone.payload.bytes);
    let start = Instant::now();
    let mut peer = RawPeer::meet(raw_host(host), seedbox.peer, &info.info_hash()).unwrap();
    for piece in 0..info.piece_count() {
        let range = info.piece_range(piece);
        let came = peer.piece(piece, info.piece_len(piece)).unwrap();
        assert!(came == bytes[range.start as usize..range.end as usize]);
    }
    start.elapsed()
}

#[test]
fn the_hours_limit_holds_until_a_reload_and_what_was_given_is_remembered() {
    let test = "the_hours_limit_holds_until_a_reload_and_what_was_given_is_remembered";
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let fast = lone.seedbox("seedbox");
    // Whatever the hour is.
    let slow = fast.clone().schedule("00:00", "12:00", SLOW);
    let seedbox = Node::start(&slow.schedule("12:00", "00:00", SLOW));
    seedbox.wait_for_offer(1);
    let limited = download(&lone, &seedbox, 2);
    assert!(limited > AT_LEAST, "{limited:?}");
    fast.write();
    seedbox.hang_up();
    let mut given = lone.payload.info.length;
    wait_for("download without a limit", PATIENCE, || {
        given += lone.payload.info.length;
        (download(&lone, &seedbox, 3) < AT_LEAST).then_some(())
    });

    let account = |node: &Node| node.status()["accounting"][0]["uploaded"].as_u64();
    assert_eq!(account(&seedbox), Some(given));
    seedbox.stop();
    let seedbox = Node::start(&fast);
    assert_eq!(account(&seedbox), Some(given));
}

#[test]
fn each_address_has_a_limit_of_its_own() {
    let Some(lone) = LoneNar::new("each_address_has_a_limit_of_its_own", SIZE) else {
        return;
    };
    let seedbox = Node::start(&lone.seedbox("seedbox").peer_upload_limit(SLOW));
    seedbox.wait_for_offer(1);
    let start = Instant::now();
    thread::scope(|threads| {
        let hosts = [2, 3, 4].map(|host| {
            let (lone, seedbox) = (&lone, &seedbox);
            threads.spawn(move || download(lone, seedbox, host))
        });
        for host in hosts {
            let limited = host.join().unwrap();
            assert!(limited > AT_LEAST, "{limited:?}");
        }
    });
    // With one limit for all of them it would be 17 s.
    let elapsed = start.elapsed();
    assert!(elapsed < 3 * AT_LEAST, "{elapsed:?}");
}

const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const EXTENDED: u8 = 20;
/// For each of the four upload slots two peers may ask.
const MAY_ASK: u8 = 8;

/// A peer that is choked is free to go elsewhere: it learns when its turn has come.
#[test]
fn whoever_has_to_wait_is_choked_until_its_turn() {
    let Some(lone) = LoneNar::new("whoever_has_to_wait_is_choked_until_its_turn", SIZE) else {
        return;
    };
    let seedbox = Node::start(&lone.seedbox("seedbox").upload_limit(SLOW));
    seedbox.wait_for_offer(1);
    let info = &lone.payload.info;
    let meet = |host| RawPeer::meet(raw_host(host), seedbox.peer, &info.info_hash()).unwrap();
    let until = |peer: &mut RawPeer, last: u8| {
        let mut ids = vec![peer.next().unwrap().0];
        while ids.last() != Some(&last) {
            ids.push(peer.next().unwrap().0);
        }
        ids
    };
    // Each more than what may leave at once: they wait for the rate. In one write, so that nobody is done in between.
    let requests: Vec<u8> = (0..4)
        .flat_map(|piece| {
            (0..info.piece_len(piece))
                .step_by(16384)
                .map(move |at| (piece, at))
        })
        .flat_map(|(piece, at)| {
            let body = [piece, at, 16384].map(u32::to_be_bytes).concat();
            [&[0, 0, 0, 13, 6], &body[..]].concat()
        })
        .collect();
    let busy: Vec<RawPeer> = (2..2 + MAY_ASK)
        .map(|host| {
            let mut peer = meet(host);
            assert!(until(&mut peer, EXTENDED).contains(&UNCHOKE), "{host}");
            peer.0.write_all(&requests).unwrap();
            peer
        })
        .collect();
    let mut late = meet(2 + MAY_ASK);
    assert!(!until(&mut late, EXTENDED).contains(&UNCHOKE));
    late.send(INTERESTED, &[]).unwrap();
    until(&mut late, UNCHOKE);
    let range = info.piece_range(0);
    let came = late.piece(0, info.piece_len(0)).unwrap();
    assert!(came == lone.payload.bytes[range.start as usize..range.end as usize]);
    drop(busy);
}
