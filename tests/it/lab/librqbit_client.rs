//! librqbit as it comes, on a host of its own: it is this test program again, started where this process cannot go.

use std::{env, net::Ipv4Addr, path::Path, process::Command};

use librqbit::{AddTorrent, AddTorrentOptions, ListenerOptions, Session, SessionOptions};

use super::{PORT, Place};

const LINK: &str = "NARSWARM_TEST_LIBRQBIT_LINK";
const DIRECTORY: &str = "NARSWARM_TEST_LIBRQBIT_DIRECTORY";

pub fn command(place: &Place, link: &str, directory: &Path) -> Command {
    let mut command = place.command(env::current_exe().unwrap());
    command.args([
        "--exact",
        "lab::librqbit_client::child",
        "--ignored",
        "--nocapture",
    ]);
    command.env(LINK, link).env(DIRECTORY, directory);
    command
}

/// Runs on its host until it is killed.
#[test]
#[ignore = "no test but the client of others; run by those of stock_clients::librqbit: downloads_by_magnet, \
            two_download_by_torrent, resumes_after_half, an_agent_downloads_from_two, an_agent_resumes_after_half"]
fn child() {
    let (Ok(link), Ok(directory)) = (env::var(LINK), env::var(DIRECTORY)) else {
        return;
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listen = ListenerOptions {
            listen_addr: (Ipv4Addr::UNSPECIFIED, PORT).into(),
            ipv4_only: true,
            ..ListenerOptions::default()
        };
        let options = SessionOptions {
            dht: None,
            disable_local_service_discovery: true,
            listen: Some(listen),
            ipv4_only: true,
            ..SessionOptions::default()
        };
        let session = Session::new_with_opts(directory.clone().into(), options).await;
        let options = AddTorrentOptions {
            overwrite: true,
            output_folder: Some(directory),
            ..AddTorrentOptions::default()
        };
        let torrent = AddTorrent::from_cli_argument(&link).unwrap();
        let added = session.unwrap().add_torrent(torrent, Some(options)).await;
        added.unwrap().into_handle().unwrap();
        std::future::pending::<()>().await;
    });
}
