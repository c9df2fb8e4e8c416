//! Stock tools read our `.torrent` files and see the same info hash, the `frames` key or not.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "lab/mod.rs"]
mod lab;

use std::path::Path;
use std::process::Command;

use lab::Need;
use narswarm::torrent::{InfoDict, Metainfo};

/// Names a Python that has libtorrent's bindings; the machine's own need not have them.
const PYTHON: &str = "NARSWARM_PYTHON";
const LIBTORRENT: &str = "import sys, libtorrent as lt
info = lt.torrent_info(sys.argv[1])
print(info.info_hash(), info.name(), info.total_size(), info.num_pieces())";

/// What the tool printed, or None when it is not here.
fn run(program: &str, arguments: &[&str], file: &Path) -> Option<String> {
    let output = Command::new(program)
        .args(arguments)
        .arg(file)
        .output()
        .ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("No module named 'libtorrent'") {
        return None;
    }
    assert!(output.status.success(), "{program}: {text}{error}");
    Some(text)
}

fn metainfos() -> [Metainfo; 2] {
    let content = vec![7u8; 600_000];
    let plain = InfoDict::of_file("layer-1-x86_64-linux", &content).unwrap();
    let mut payload = plain.clone();
    payload.name = "1b8m03r63zqhnjf7l5wnldhh7c134ap5vpj0850ymkq1iyzicy5s.nar.zst".into();
    payload.frames = Some(vec![200_000; 3]);
    let trackers = vec![
        "http://127.0.0.1:6969/announce".into(),
        "udp://127.0.0.1:6969".into(),
    ];
    [
        Metainfo {
            info: plain,
            trackers: Vec::new(),
        },
        Metainfo {
            info: payload,
            trackers,
        },
    ]
}

fn check(program: &str, arguments: &[&str]) {
    let dir = tempfile::tempdir().unwrap();
    for metainfo in metainfos() {
        let file = dir.path().join("a.torrent");
        std::fs::write(&file, metainfo.encode()).unwrap();
        let Some(text) = run(program, arguments, &file) else {
            let why = format!("{program} is not installed or has no libtorrent");
            match arguments == ["-c", LIBTORRENT] && std::env::var_os(PYTHON).is_none() {
                true => Need::optional("torrent_tools", &why),
                false => Need::not_run("torrent_tools", &why),
            }
            return;
        };
        let text = text.to_lowercase();
        assert!(
            text.contains(&metainfo.info.info_hash().to_string()),
            "{program}: {text}"
        );
        assert!(text.contains(&metainfo.info.name), "{program}: {text}");
    }
}

#[test]
fn aria2_reads_our_torrents() {
    check("aria2c", &["-S"]);
}

#[test]
fn transmission_reads_our_torrents() {
    check("transmission-show", &[]);
}

#[test]
fn libtorrent_reads_our_torrents() {
    let python = std::env::var(PYTHON).unwrap_or("python3".to_owned());
    check(&python, &["-c", LIBTORRENT]);
}
