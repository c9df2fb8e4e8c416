//! `narswarm torrent`: the .torrent and the magnet link of an installed path, for any BitTorrent client.

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::payload;
use crate::runtime::Readers;
use crate::torrent::{Magnet, Metainfo};

use super::args::TorrentArgs;
use super::exit::Failure;
use super::local_path::LocalPath;
use super::payload::{describe, new_output};

pub async fn run(args: TorrentArgs) -> Result<(), Failure> {
    let work = tokio::task::spawn_blocking(move || write(&args));
    work.await.map_err(Failure::failed)?
}

fn write(args: &TorrentArgs) -> Result<(), Failure> {
    payload::self_test().map_err(Failure::failed)?;
    let path = LocalPath::find(&args.store_path, &args.store)?;
    let info = describe(&path, |_| Ok(()))?.info;
    let magnet = Magnet {
        info_hash: info.info_hash(),
        name: Some(info.name.clone()),
        length: Some(info.length),
        trackers: args.trackers.clone(),
        peers: args.peers.clone(),
    };
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{}.torrent", info.name)));
    let encoded = Metainfo {
        info,
        trackers: args.trackers.clone(),
    }
    .encode();
    if output == Path::new("-") {
        return std::io::stdout()
            .write_all(&encoded)
            .map_err(Failure::failed);
    }
    // A client that reads the one before, while it is made again, reads it whole.
    let written = new_output(&output).and_then(|mut file| {
        file.write_all(&encoded)?;
        file.keep_as(&output, Readers::Everybody)
    });
    written
        .map_err(|error| Failure::failed(format!("cannot write {}: {error}", output.display())))?;
    println!("{magnet}");
    Ok(())
}
