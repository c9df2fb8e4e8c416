//! What the store does not have, or not as the row says, is not offered: the rest goes on.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use crate::lab::{
    Closure, Keys, LoneNar, Need, Nix, Node, NodeConfig, Payload, RawPeer, Release, Scratch,
    make_writable, payload_of, raw_host, wait_for,
};

/// A file rests for 20 s, and is then closed within as much again.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn an_altered_path_is_withdrawn_before_a_wrong_byte_leaves() {
    let test = "an_altered_path_is_withdrawn_before_a_wrong_byte_leaves";
    // Two frames: the second one is made after the change.
    let Some((lone, seedbox)) = LoneNar::seeded(test, 6_000_000, |seedbox| seedbox) else {
        return;
    };
    let info = &lone.payload.info;
    let meet = || RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash());
    let (piece, last) = (info.piece_len(0), info.piece_count() - 1);
    let mut peer = meet().unwrap();
    assert!(peer.piece(0, piece).unwrap() == lone.payload.bytes[..piece as usize]);

    let file = lone.file();
    make_writable(&file);
    let length = file.metadata().unwrap().len();
    let opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.write_all_at(b"altered", length - 100).unwrap();
    assert!(peer.piece(last, info.piece_len(last)).is_err());

    let status = seedbox.wait("withdrawn path", |status| status["offer"]["withdrawn"] == 1);
    assert_eq!(status["offer"]["paths"], 0, "{status}");
    let errors = status["errors"].to_string();
    assert!(
        errors.contains("does not hold what the manifest says"),
        "{errors}"
    );
    assert!(meet().is_err(), "nothing is offered any more");

    // Installed anew it is what the row says.
    lone.delete();
    seedbox.wait("collected path", |s| s["offer"]["withdrawn"] == 0);
    lone.add_again();
    seedbox.wait_for_offer(1);
    assert_gives_all(&seedbox, &lone.payload);
}

/// Of three frames two lie in the first file. The first frame is made with the info dict.
const FILES: [u64; 2] = [9_000_000, 3_000_000];

/// A path of these files; the seedbox has planned its NAR for a peer that has a piece of the second frame.
fn under_way(test: &str) -> Option<(LoneNar, Node, RawPeer)> {
    if !Need::all(test, &[Need::NIX]) {
        return None;
    }
    let nix = Nix::installed();
    let closure = Closure::noise_files(&nix, &FILES);
    let lone = LoneNar::of(nix, closure);
    let seedbox = Node::start(&lone.seedbox("seedbox"));
    seedbox.wait_for_offer(1);
    let info = &lone.payload.info;
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash()).unwrap();
    let middle = info.piece_count() / 2;
    peer.piece(middle, info.piece_len(middle)).unwrap();
    Some((lone, seedbox, peer))
}

#[test]
fn what_cannot_be_read_now_stays_offered() {
    let Some((lone, seedbox, mut peer)) = under_way("what_cannot_be_read_now_stays_offered") else {
        return;
    };
    let (file, aside) = (lone.file().join("1"), lone.nix.work().join("aside"));
    make_writable(&lone.file());
    fs::rename(&file, &aside).unwrap();
    let info = &lone.payload.info;
    let last = info.piece_count() - 1;
    assert!(peer.piece(last, info.piece_len(last)).is_err());
    let offer = &seedbox.status()["offer"];
    assert_eq!(
        (&offer["paths"], &offer["withdrawn"]),
        (&1.into(), &0.into())
    );
    fs::rename(&aside, &file).unwrap();
    assert_gives_all(&seedbox, &lone.payload);
}

/// Nix removes file by file: for a while there is a part of the path.
#[test]
fn a_path_that_is_being_collected_is_no_lie() {
    let Some((lone, seedbox, mut peer)) = under_way("a_path_that_is_being_collected_is_no_lie")
    else {
        return;
    };
    lone.delete();
    seedbox.wait_for_offer(0);
    fs::create_dir(lone.file()).unwrap();
    fs::write(lone.file().join("0"), "").unwrap();
    let info = &lone.payload.info;
    let last = info.piece_count() - 1;
    assert!(peer.piece(last, info.piece_len(last)).is_err());
    assert_eq!(seedbox.status()["offer"]["withdrawn"], 0);
    lone.add_again();
    seedbox.wait_for_offer(1);
    assert_gives_all(&seedbox, &lone.payload);
}

#[test]
fn a_damaged_payload_in_the_cache_hides_no_other() {
    let test = "a_damaged_payload_in_the_cache_hides_no_other";
    let Some(lone) = LoneNar::new(test, 1_000_000) else {
        return;
    };
    let (info, mut bytes) = (&lone.payload.info, lone.payload.bytes.to_vec());
    let hold = lone.scratch.directory("hold");
    fs::write(hold.join(&info.name), &bytes).unwrap();
    let config = NodeConfig::payload_seedbox(lone.scratch.path("seedbox"), &hold);
    let cache = config.state.join("cache");
    fs::create_dir_all(&cache).unwrap();
    let damaged = cache.join(format!("{}.nar.zst", info.info_hash()));
    bytes[500_000] ^= 1;
    fs::write(&damaged, &bytes).unwrap();

    let seedbox = Node::start(&config.follow(&lone.publication));
    seedbox.wait_for_offer(1);
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash()).unwrap();
    assert!(peer.piece(0, info.piece_len(0)).is_err());
    assert_gives_all(&seedbox, &lone.payload);
    assert!(!damaged.exists(), "a good one may take its place");
}

/// While a file is open its blocks are not free, whatever is collected.
#[test]
fn no_file_stays_open_when_nobody_asks() {
    let Some((lone, seedbox, peer)) = under_way("no_file_stays_open_when_nobody_asks") else {
        return;
    };
    let descriptors = format!("/proc/{}/fd", seedbox.id());
    let is_open = || {
        let descriptors = fs::read_dir(&descriptors).unwrap();
        // Others come and go while they are listed.
        let mut open =
            descriptors.filter_map(|descriptor| descriptor.unwrap().path().read_link().ok());
        open.any(|file| file.starts_with(lone.file()))
    };
    assert!(is_open());
    drop(peer);
    wait_for("closed file", PATIENCE, || (!is_open()).then_some(()));
}

#[test]
fn garbage_collection_ends_an_upload_and_leaves_the_others() {
    let test = "garbage_collection_ends_an_upload_and_leaves_the_others";
    if !Need::all(test, &[Need::NIX]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let [large, small] = [40_000_000, 100_000].map(|bytes| Closure::noise(&nix, bytes));
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let paths = [&large, &small].map(|closure| closure.top.clone());
    let release = Release::of_store(&nix.root(), paths.into(), &keys, scratch.path("release"));
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &nix.root());
    let seedbox = seedbox.follow(&release.publish()).upload_limit("1MB/s");
    let seedbox = Node::start(&seedbox);
    seedbox.wait_for_offer(2);
    let payload = |closure: &Closure| payload_of(&nix.dump(&closure.root, &closure.top));
    let (large_payload, small_payload) = (payload(&large), payload(&small));
    let info = &large_payload.info;

    // It would take 40 s.
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info.info_hash()).unwrap();
    let mut came = 0;
    while let Ok(bytes) = peer.piece(came, info.piece_len(came)) {
        let range = info.piece_range(came);
        assert!(bytes == large_payload.bytes[range.start as usize..range.end as usize]);
        if came == 20 {
            // Of the second frame: its one file is open, and can be read on after it was removed.
            nix.on_store("nix-store", &["--delete", &large.top]);
        }
        came += 1;
        assert!(came < info.piece_count(), "it got everything");
    }
    seedbox.wait("end of the upload", |s| s["swarm"]["uploading_to"] == 0);
    assert_gives_all(&seedbox, &small_payload);
    let offer = seedbox.wait_for_offer(1)["offer"].clone();
    assert_eq!(offer["withdrawn"], 0, "collected is not altered");
}

#[test]
fn a_path_that_no_kept_release_lists_is_not_offered() {
    let test = "a_path_that_no_kept_release_lists_is_not_offered";
    let Some((lone, seedbox)) = LoneNar::seeded(test, 100_000, |seedbox| seedbox.keep_releases(1))
    else {
        return;
    };
    let meet = |info_hash| RawPeer::meet(raw_host(2), seedbox.peer, &info_hash);
    let first = lone.payload.info.info_hash();
    assert!(meet(first).is_ok());

    // The next release has another path; the first one stays installed.
    let other = Closure::noise(&lone.nix, 50_000);
    let next = payload_of(&lone.nix.dump(&other.root, &other.top));
    let release = Release {
        name: "r2".to_owned(),
        ..Release::of(&other, &lone.keys, lone.scratch.path("release"))
    };
    release.publish();
    seedbox.wait("next release", |s| s["channels"][0]["release"] == "r2");
    assert!(meet(next.info.info_hash()).is_ok() && meet(first).is_err());
    assert_eq!(seedbox.wait_for_offer(1)["offer"]["withdrawn"], 0);
}

#[track_caller]
fn assert_gives_all(seedbox: &Node, payload: &Payload) {
    let info = &payload.info;
    let mut peer = RawPeer::meet(raw_host(3), seedbox.peer, &info.info_hash()).unwrap();
    for piece in 0..info.piece_count() {
        let range = info.piece_range(piece);
        let came = peer.piece(piece, info.piece_len(piece)).unwrap();
        assert!(came == payload.bytes[range.start as usize..range.end as usize]);
    }
}
