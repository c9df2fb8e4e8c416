//! What the store does not have, or not as the row says, is not offered: the rest goes on.

use std::{fs::OpenOptions, os::unix::fs::FileExt as _, path::Path};

use crate::lab::{
    Closure, LoneNar, Need, Nix, Node, NodeConfig, Publication, RawPeer, Release, Scratch, get,
    make_writable, payload_of, raw_host,
};

#[test]
fn an_altered_path_is_withdrawn_before_a_wrong_byte_leaves() {
    let test = "an_altered_path_is_withdrawn_before_a_wrong_byte_leaves";
    // Two frames: the second one is made after the change.
    let Some(lone) = LoneNar::new(test, 6_000_000) else {
        return;
    };
    let seedbox = Node::start(&lone.seedbox("seedbox"));
    seedbox.wait_for_offer(1);
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
}

#[test]
fn garbage_collection_takes_one_path_and_leaves_the_others() {
    let test = "garbage_collection_takes_one_path_and_leaves_the_others";
    if !Need::all(test, &[Need::NIX]) {
        return;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let shared = Closure::small();
    let root = scratch.path("root");
    copy(&shared.root, &root);
    let closure = Closure::read(&nix, root, shared.top.clone());
    let publication = Publication::of(&nix, &closure, scratch.root());
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication).upload_limit("1MB/s"));
    seedbox.wait_for_offer(closure.paths.len());
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let agent = agent.follow(&publication).trust(&publication.keys.narinfo);
    let agent = Node::start(&agent.peer(seedbox.peer));

    // The upload of the path that nobody needs is under way when it is collected.
    let top = closure.top().nar();
    let shim = agent.shim;
    let asking = std::thread::spawn(move || get(shim, &top));
    seedbox.wait("upload", |status| status["bytes"]["uploaded"] != 0);
    nix.on(&closure.root, "nix-store", &["--delete", &closure.top]);
    seedbox.wait_for_offer(closure.paths.len() - 1);
    // Whatever had been read by then: right bytes, or none.
    let nar = asking.join().unwrap();
    let whole = nar.body.len() as u64 == closure.top().nar_size;
    assert!(nar.status != 200 || !whole || nar.body == nix.dump(&shared.root, &shared.top));
    let other = closure
        .paths
        .iter()
        .find(|path| path.store_path != closure.top);
    let other = other.unwrap();
    let nar = agent.get(&other.nar());
    assert_eq!(nar.status, 200);
    assert!(nar.body == nix.dump(&closure.root, &other.store_path));
    assert_eq!(
        seedbox.status()["offer"]["withdrawn"],
        0,
        "collected is not altered"
    );
}

#[test]
fn a_path_that_no_kept_release_lists_is_not_offered() {
    let test = "a_path_that_no_kept_release_lists_is_not_offered";
    let Some(lone) = LoneNar::new(test, 100_000) else {
        return;
    };
    let seedbox = Node::start(&lone.seedbox("seedbox").keep_releases(1));
    seedbox.wait_for_offer(1);
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

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status();
    assert!(status.unwrap().success());
}
