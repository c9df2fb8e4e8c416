//! What leaves keeps to its limits: the hour's, and each address's. A reload changes them at once, and a restart forgets
//! nothing of what was given.

use std::{
    io::Write as _,
    ops::Range,
    thread,
    time::{Duration, Instant},
};

use narswarm::torrent::InfoDict;

use crate::lab::{LoneNar, Node, NodeConfig, RawPeer, raw_host, wait_for};

const SIZE: u64 = 3_000_000;
/// What every client asks for at a time.
const BLOCK: u32 = 16 * 1024;
const SLOW: &str = "500kB/s";
/// Half a megabyte may leave at once, the rest takes 5 s.
const AT_LEAST: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(30);

fn slow(seedbox: NodeConfig) -> NodeConfig {
    seedbox.upload_limit(SLOW)
}

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
    let slow = fast.clone().schedule("00:00", "00:00", SLOW);
    let seedbox = Node::start(&slow);
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
    let Some((lone, seedbox)) =
        LoneNar::seeded("each_address_has_a_limit_of_its_own", SIZE, |seedbox| {
            seedbox.peer_upload_limit(SLOW)
        })
    else {
        return;
    };
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

const CHOKE: u8 = 0;
const UNCHOKE: u8 = 1;
const INTERESTED: u8 = 2;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const CANCEL: u8 = 8;
const REJECT: u8 = 16;
const EXTENDED: u8 = 20;
/// For each of the four upload slots two peers may ask.
const MAY_ASK: u8 = 8;

/// Messages of this id, for all blocks of these pieces.
fn frames(info: &InfoDict, pieces: Range<u32>, id: u8) -> Vec<u8> {
    let blocks = |piece| (0..info.piece_len(piece)).step_by(BLOCK as usize);
    let frame = |piece: u32, at: u32| {
        let body = [piece, at, BLOCK.min(info.piece_len(piece) - at)];
        let body = body.map(u32::to_be_bytes).concat();
        [&[0, 0, 0, 13, id], &body[..]].concat()
    };
    let pieces = pieces.flat_map(|piece| blocks(piece).map(move |at| (piece, at)));
    pieces.flat_map(|(piece, at)| frame(piece, at)).collect()
}

/// Another was faster: what is taken back before it was sent is not sent.
#[test]
fn what_a_peer_takes_back_is_not_sent() {
    let Some((lone, seedbox)) =
        LoneNar::seeded("what_a_peer_takes_back_is_not_sent", SIZE, |seedbox| {
            seedbox
        })
    else {
        return;
    };
    let info = &lone.payload.info;
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash()).unwrap();
    let asked = frames(info, 0..4, REQUEST);
    let spared = frames(info, 1..3, CANCEL);
    peer.0.write_all(&[asked, spared].concat()).unwrap();
    let mut came = Vec::new();
    let blocks = |piece| info.piece_len(piece).div_ceil(BLOCK) as usize;
    while came.len() < blocks(0) + blocks(3) {
        if let (PIECE, block) = peer.next().unwrap() {
            came.push(block[3]);
        }
    }
    assert!(came.iter().all(|piece| [0, 3].contains(piece)), "{came:?}");
    assert_eq!(
        seedbox.bytes("uploaded"),
        u64::from(info.piece_len(0) + info.piece_len(3))
    );
}

/// As many peers as may ask at once; each then asks for the same.
fn all_that_may_ask(lone: &LoneNar, seedbox: &Node, requests: &[u8]) -> Vec<RawPeer> {
    let mut peers = Vec::new();
    for host in 2..2 + MAY_ASK {
        let (mut peer, unchoked) = meet(lone, seedbox, host);
        assert!(unchoked, "{host}");
        peer.0.write_all(requests).unwrap();
        peers.push(peer);
    }
    peers
}

/// The peer, and whether it was choked at first.
fn one_more_gets_a_piece(lone: &LoneNar, seedbox: &Node) -> (RawPeer, bool) {
    let (mut peer, unchoked) = meet(lone, seedbox, 2 + MAY_ASK);
    peer.send(INTERESTED, &[]).unwrap();
    while !unchoked && peer.next().unwrap().0 != UNCHOKE {}
    let info = &lone.payload.info;
    let range = info.piece_range(0);
    let came = peer.piece(0, info.piece_len(0)).unwrap();
    assert!(came == lone.payload.bytes[range.start as usize..range.end as usize]);
    (peer, !unchoked)
}

/// A peer that has heard how the seedbox opens the conversation, and whether it may ask.
fn meet(lone: &LoneNar, seedbox: &Node, host: u8) -> (RawPeer, bool) {
    let info_hash = lone.payload.info.info_hash();
    let mut peer = RawPeer::meet(raw_host(host), seedbox.peer, &info_hash).unwrap();
    let mut unchoked = false;
    loop {
        match peer.next().unwrap().0 {
            UNCHOKE => unchoked = true,
            EXTENDED => return (peer, unchoked),
            _ => {}
        }
    }
}

/// A peer that is choked is free to go elsewhere: it learns when its turn has come.
#[test]
fn whoever_has_to_wait_is_choked_until_its_turn() {
    let Some((lone, seedbox)) =
        LoneNar::seeded("whoever_has_to_wait_is_choked_until_its_turn", SIZE, slow)
    else {
        return;
    };
    let info = &lone.payload.info;
    // Each more than what may leave at once: they wait for the rate. In one write, so that nobody is done in between.
    let requests = frames(info, 0..4, REQUEST);
    let busy = all_that_may_ask(&lone, &seedbox, &requests);
    let (_, choked) = one_more_gets_a_piece(&lone, &seedbox);
    assert!(choked);
    drop(busy);
}

/// Choking would be a favour that peers do us, if whoever asks all the same were served.
#[test]
fn a_choked_peer_asks_in_vain() {
    let Some((lone, seedbox)) = LoneNar::seeded("a_choked_peer_asks_in_vain", SIZE, slow) else {
        return;
    };
    let info = &lone.payload.info;
    let busy = all_that_may_ask(&lone, &seedbox, &frames(info, 0..4, REQUEST));
    let (mut rude, unchoked) = meet(&lone, &seedbox, 100);
    assert!(!unchoked);
    let mut told = RawPeer::meet_fast(raw_host(101), seedbox.peer, &info.info_hash()).unwrap();
    let asked = frames(info, 0..2, REQUEST);
    rude.0.write_all(&asked).unwrap();
    told.0.write_all(&asked).unwrap();
    let (_, choked) = one_more_gets_a_piece(&lone, &seedbox);
    assert!(choked, "it came later, and waited for its turn");
    while let Ok((id, _)) = rude.next() {
        assert_ne!(id, PIECE);
    }
    assert!(rude.is_hung_up_on());
    // Who can be told is, and is served when its turn comes.
    told.send(INTERESTED, &[]).unwrap();
    let mut rejected = 0;
    loop {
        match told.next().unwrap().0 {
            UNCHOKE => break,
            id => {
                assert_ne!(id, PIECE);
                rejected += usize::from(id == REJECT);
            }
        }
    }
    let blocks = [0, 1].map(|piece| info.piece_len(piece).div_ceil(BLOCK));
    assert_eq!(rejected, blocks.iter().sum::<u32>() as usize);
    assert!(told.piece(1, info.piece_len(1)).is_ok());
    drop(busy);
}

/// A downloader keeps requests on the way, and has one more for each block that comes: choked in the middle of a piece it
/// would hold a part of another, which it would have to fetch elsewhere once more.
#[test]
fn a_turn_ends_with_a_piece() {
    let Some((lone, seedbox)) = LoneNar::seeded("a_turn_ends_with_a_piece", SIZE, slow) else {
        return;
    };
    let info = &lone.payload.info;
    let first = frames(info, 0..1, REQUEST);
    let (mut peer, unchoked) = meet(&lone, &seedbox, 2);
    assert!(unchoked);
    peer.0.write_all(&first).unwrap();
    // Half of the others wait; whoever may ask does so at once.
    let enough = frames(info, 0..3, REQUEST);
    for host in 3..2 + 2 * MAY_ASK {
        let (mut other, mut unchoked) = meet(&lone, &seedbox, host);
        other.send(INTERESTED, &[]).unwrap();
        let enough = enough.clone();
        // Ends with the seedbox.
        thread::spawn(move || {
            loop {
                if unchoked && other.0.write_all(&enough).is_err() {
                    return;
                }
                match other.next() {
                    Ok((id, _)) => unchoked = id == UNCHOKE,
                    Err(_) => return,
                }
            }
        });
    }
    let in_a_piece = info.piece_len(0).div_ceil(BLOCK) as usize;
    let rest = frames(info, 1..info.piece_count(), REQUEST);
    let mut rest = rest.chunks_exact(first.len() / in_a_piece);
    let (mut asked, mut came, mut choked) = (in_a_piece, 0, false);
    while came < asked {
        match peer.next().unwrap().0 {
            CHOKE => choked = true,
            PIECE => {
                came += 1;
                if let Some(request) = rest.next().filter(|_| !choked) {
                    peer.0.write_all(request).unwrap();
                    asked += 1;
                }
            }
            _ => {}
        }
    }
    assert!(choked, "it got everything: {came} blocks");
    assert_eq!(came % in_a_piece, 0, "{came}");
}

/// Nor does one keep its turn for ever by asking for next to nothing, and never for the end of a piece.
#[test]
fn peers_that_never_end_a_piece_hold_up_nobody() {
    let Some((lone, seedbox)) =
        LoneNar::seeded("peers_that_never_end_a_piece_hold_up_nobody", SIZE, slow)
    else {
        return;
    };
    let a_byte = [0, 0, 1].map(u32::to_be_bytes).concat();
    let request = [&[0, 0, 0, 13, REQUEST], &a_byte[..]].concat();
    let count = 400;
    let busy = all_that_may_ask(&lone, &seedbox, &request.repeat(count));
    let (_, choked) = one_more_gets_a_piece(&lone, &seedbox);
    assert!(choked);
    let bytes = seedbox.bytes("uploaded") - u64::from(lone.payload.info.piece_len(0));
    let all = u64::from(MAY_ASK) * count as u64;
    assert!(bytes < all / 2, "it had to wait for {bytes} of {all}");
    drop(busy);
}

/// One that asks for everything and reads nothing of it has a slot and an invitation for a moment only.
#[test]
fn peers_that_do_not_read_hold_up_nobody() {
    let Some((lone, seedbox)) =
        LoneNar::seeded("peers_that_do_not_read_hold_up_nobody", SIZE, |seedbox| {
            seedbox
        })
    else {
        return;
    };
    let info = &lone.payload.info;
    let stalled = all_that_may_ask(
        &lone,
        &seedbox,
        &frames(info, 0..info.piece_count(), REQUEST),
    );
    let one_more = one_more_gets_a_piece(&lone, &seedbox);
    // They are still there: nobody waited until they were hung up on.
    let connected = seedbox.status()["swarm"]["uploading_to"].as_u64();
    assert_eq!(connected, Some(u64::from(MAY_ASK) + 1));
    drop((stalled, one_more));
}
