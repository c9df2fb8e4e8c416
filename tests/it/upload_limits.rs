//! What leaves keeps to its limits: the hour's, and each address's. A reload changes them at once, and a restart forgets
//! nothing of what was given.

use std::{
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
