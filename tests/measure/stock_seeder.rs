//! The seeder that ours is compared with: librqbit as it comes, in a process of its own, seeding files from disk.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

use librqbit::{AddTorrent, AddTorrentOptions, ListenerMode, ListenerOptions};
use librqbit::{Session, SessionOptions};
use narswarm::torrent::{InfoDict, Metainfo};

use crate::cpu_time;
use crate::stock_downloader::quiet_options;

/// The argument that makes this program the seeder.
pub const SEED: &str = "seed-with-librqbit";

pub struct StockSeeder {
    child: Child,
    pub address: SocketAddr,
}

impl StockSeeder {
    /// Returns when all of it is hashed and served.
    pub fn start(files: &Path, torrents: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.arg(SEED).arg(files).arg(torrents);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().parse();
        let address = address.unwrap_or_else(|_| panic!("librqbit's seeder said '{line}'"));
        Self { child, address }
    }

    pub fn cpu(&self) -> f64 {
        cpu_time::of_process(self.child.id())
    }
}

impl Drop for StockSeeder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a `.torrent` for each, as a stock client wants them.
pub fn write_torrents(infos: &[InfoDict], to: &Path) {
    fs::create_dir(to).unwrap();
    for info in infos {
        let metainfo = Metainfo {
            info: info.clone(),
            trackers: vec![],
        };
        let file = to.join(format!("{}.torrent", info.name));
        fs::write(file, metainfo.encode()).unwrap();
    }
}

/// The seeder's own process: says its address when it is ready, and runs until it is killed.
pub fn seed(files: &Path, torrents: &Path) -> ExitCode {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let listen = ListenerOptions {
            mode: ListenerMode::TcpOnly,
            listen_addr: (Ipv4Addr::LOCALHOST, 0).into(),
            ipv4_only: true,
            ..ListenerOptions::default()
        };
        let options = SessionOptions {
            listen: Some(listen),
            ..quiet_options()
        };
        let session = Session::new_with_opts(files.to_owned(), options).await;
        let session = session.unwrap();
        for torrent in fs::read_dir(torrents).unwrap() {
            let torrent = fs::read(torrent.unwrap().path()).unwrap();
            let options = AddTorrentOptions {
                overwrite: true,
                output_folder: Some(files.to_str().unwrap().to_owned()),
                ..AddTorrentOptions::default()
            };
            let added = session.add_torrent(AddTorrent::from_bytes(torrent), Some(options));
            let handle = added.await.unwrap().into_handle().unwrap();
            handle.wait_until_initialized().await.unwrap();
            assert!(handle.stats().finished, "librqbit did not find its files");
        }
        println!("{}", session.listen_addr().unwrap());
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}
