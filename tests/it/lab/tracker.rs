//! A tracker that knows the peers that it was told of, on a host of its own: stock clients take peers of a magnet link
//! from trackers only. It is this test program again, started where this process cannot go.

use std::{
    env,
    net::{IpAddr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::{Answer, ChildProcess, HttpServer, Place};

const TASK: &str = "NARSWARM_TEST_TRACKER";
const START: Duration = Duration::from_secs(30);

pub struct Tracker {
    _process: ChildProcess,
    pub url: String,
}

impl Tracker {
    /// Listens on `address` in `place` and names `peers` to everybody.
    pub fn start(place: &Place, address: IpAddr, peers: &[SocketAddr], directory: &Path) -> Self {
        let peers: Vec<String> = peers.iter().map(ToString::to_string).collect();
        let mut command = place.command(env::current_exe().unwrap());
        command
            .args(["--exact", "lab::tracker::child", "--ignored", "--nocapture"])
            .env(TASK, format!("{address} {}", peers.join(" ")));
        let mut process = ChildProcess::start(command, directory, "tracker");
        let url = process.line("address", START, |line| {
            line.split_once("LISTENS ").map(|(_, url)| url.to_owned())
        });
        Self {
            _process: process,
            url,
        }
    }
}

/// Runs on its host until it is killed.
#[test]
#[ignore = "it is the child of the other tests"]
fn child() {
    let Ok(task) = env::var(TASK) else {
        return;
    };
    let mut words = task.split(' ');
    let address: IpAddr = words.next().unwrap().parse().unwrap();
    let peers: Vec<u8> = words
        .flat_map(|peer| compact(peer.parse().unwrap()))
        .collect();
    let mut answer = format!("d8:intervali5e5:peers{}:", peers.len()).into_bytes();
    answer.extend(peers);
    answer.push(b'e');
    let server = HttpServer::listen(SocketAddr::new(address, 0), move |_| {
        Answer::Body(answer.clone())
    });
    println!("LISTENS {}/announce", server.url());
    loop {
        std::thread::park();
    }
}

/// BEP 23.
fn compact(peer: SocketAddr) -> [u8; 6] {
    let SocketAddr::V4(peer) = peer else {
        panic!("{peer} has no compact form")
    };
    let [a, b, c, d] = peer.ip().octets();
    let [high, low] = peer.port().to_be_bytes();
    [a, b, c, d, high, low]
}
