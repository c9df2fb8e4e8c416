//! While nobody downloads, a seeder gets to know the info dicts of what is installed: it can then make any piece at once.
//! Those of releases that are gone it forgets.

use std::{
    fs::{self, OpenOptions},
    os::unix::fs::FileExt as _,
    time::Duration,
};

use narswarm::{catalog::InfoDicts, torrent::InfoDict};

use crate::lab::{LoneNar, Node, RawPeer, make_writable, raw_host, wait_for};

/// Two frames.
const SIZE: u64 = 6_000_000;
/// As many as are kept without a release.
const SPARE: u64 = 10_000;
/// It begins 10 s after the start.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn info_dicts_are_known_before_anybody_asks() {
    let Some(lone) = LoneNar::new("info_dicts_are_known_before_anybody_asks", SIZE) else {
        return;
    };
    let config = lone.seedbox("seedbox");
    let seedbox = Node::start(&config);
    seedbox.wait_for_offer(1);
    let infos = InfoDicts::open(&seedbox.state().join("info.sqlite")).unwrap();
    let info_hash = lone.payload.info.info_hash();
    wait_for("info dict", PATIENCE, || {
        infos.has(&info_hash).unwrap().then_some(())
    });
    assert_eq!(
        infos.get(&info_hash).unwrap().as_ref(),
        Some(&*lone.payload.info)
    );
    assert_eq!(seedbox.bytes("uploaded"), 0);
    // It is kept, and good for any piece: from the store it could not be made again, of which the first frame is spoilt.
    seedbox.stop();
    let file = lone.file();
    make_writable(&file);
    let opened = OpenOptions::new().write(true).open(&file).unwrap();
    opened.write_all_at(&[0; 5000], 1000).unwrap();
    let seedbox = Node::start(&config);
    seedbox.wait_for_offer(1);
    let info = &lone.payload.info;
    let (last, range) = (
        info.piece_count() - 1,
        info.piece_range(info.piece_count() - 1),
    );
    let mut peer = RawPeer::meet(raw_host(2), seedbox.peer, &info_hash).unwrap();
    let piece = peer.piece(last, info.piece_len(last)).unwrap();
    assert!(piece == lone.payload.bytes[range.start as usize..range.end as usize]);
}

#[test]
fn info_dicts_of_releases_that_are_gone_are_forgotten() {
    let name = "info_dicts_of_releases_that_are_gone_are_forgotten";
    let Some(lone) = LoneNar::new(name, SIZE) else {
        return;
    };
    let config = lone.seedbox("seedbox");
    fs::create_dir_all(&config.state).unwrap();
    let infos = InfoDicts::open(&config.state.join("info.sqlite")).unwrap();
    // What many releases before this one have left.
    for i in 0..SPARE {
        let info = InfoDict {
            name: format!("{i}.nar.zst"),
            ..InfoDict::clone(&lone.payload.info)
        };
        infos.put(&info).unwrap();
    }
    infos.put(&lone.payload.info).unwrap();
    assert_eq!(infos.count().unwrap(), SPARE + 1);
    let seedbox = Node::start(&config);
    seedbox.wait_for_offer(1);
    let info_hash = lone.payload.info.info_hash();
    wait_for("file of what is listed", PATIENCE, || {
        (infos.count().unwrap() == 1).then_some(())
    });
    assert!(infos.has(&info_hash).unwrap());
}

#[test]
fn nothing_is_computed_for_nobody() {
    let Some(lone) = LoneNar::new("nothing_is_computed_for_nobody", SIZE) else {
        return;
    };
    let quiet_config = lone.seedbox("quiet");
    let quiet = Node::start(&quiet_config.clone().share("off"));
    // Starts later, and is done.
    let sharing = Node::start(&lone.seedbox("sharing"));
    let info_hash = lone.payload.info.info_hash();
    let infos = |node: &Node| InfoDicts::open(&node.state().join("info.sqlite")).unwrap();
    let (of_quiet, of_sharing) = (infos(&quiet), infos(&sharing));
    let is_known = |infos: &InfoDicts| infos.has(&info_hash).unwrap().then_some(());
    wait_for("info dict", PATIENCE, || is_known(&of_sharing));
    assert_eq!(is_known(&of_quiet), None);
    quiet_config.write();
    quiet.hang_up();
    wait_for("info dict when it is shared", PATIENCE, || {
        is_known(&of_quiet)
    });
}
