//! `narswarm torrent`: a client that is reading the .torrent while it is made again reads it whole.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::symlink;

use narswarm::torrent::Metainfo;

use crate::lab::{LoneNar, narswarm};

#[test]
fn whoever_reads_the_one_before_reads_it_whole() {
    let Some(lone) = LoneNar::new("whoever_reads_the_one_before_reads_it_whole", 300_000) else {
        return;
    };
    let torrent = lone.scratch.path("payload.torrent");
    let (path, output) = (lone.file(), torrent.to_str().unwrap());
    let make = |tracker: &str| {
        let path = path.to_str().unwrap();
        narswarm(["torrent", path, "-o", output, "--tracker", tracker]).success();
    };
    make("http://10.77.0.1/the-first-of-two");
    let mut read = Vec::new();
    let mut before = File::open(&torrent).unwrap();
    make("http://10.77.0.1/2");
    before.read_to_end(&mut read).unwrap();
    let before = Metainfo::decode(&read).unwrap();
    assert_eq!(before.trackers, ["http://10.77.0.1/the-first-of-two"]);
    let now = Metainfo::decode(&std::fs::read(&torrent).unwrap()).unwrap();
    assert_eq!(now.trackers, ["http://10.77.0.1/2"]);
    assert_eq!(now.info, before.info);
}

#[test]
fn a_device_is_not_replaced() {
    let Some(lone) = LoneNar::new("a_device_is_not_replaced", 1000) else {
        return;
    };
    let (path, output) = (lone.file(), lone.scratch.path("device"));
    symlink("/dev/null", &output).unwrap();
    let (path, output) = (path.to_str().unwrap(), output.to_str().unwrap());
    for command in ["torrent", "payload"] {
        narswarm([command, path, "-o", output])
            .exits(1)
            .says(&[output, "not a regular file"]);
    }
}
