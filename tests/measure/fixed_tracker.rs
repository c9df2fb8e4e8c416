//! A tracker that names one peer to everybody: stock clients find peers of a .torrent nowhere else.

use std::io::{Read, Write};
use std::net::{SocketAddrV4, TcpListener};
use std::process::ExitCode;

use crate::started::READY;

/// The argument that makes this program such a tracker.
pub const FIXED_TRACKER: &str = "fixed-tracker";

pub fn run(listen: &str, peer: &str) -> ExitCode {
    let listener = TcpListener::bind(listen).unwrap();
    let peer: SocketAddrV4 = peer.parse().unwrap();
    let mut answer = b"d8:intervali600e5:peers6:".to_vec();
    answer.extend(peer.ip().octets());
    answer.extend(peer.port().to_be_bytes());
    answer.push(b'e');
    println!("{READY}");
    for mut stream in listener.incoming().flatten() {
        // An announce fits into one segment; whoever does not send it gets nothing.
        let mut request = [0; 4096];
        let asked = stream.read(&mut request).is_ok_and(|length| length > 0);
        if asked {
            let head = format!(
                "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n",
                answer.len()
            );
            let _ = stream.write_all(&[head.as_bytes(), &answer].concat());
        }
    }
    ExitCode::SUCCESS
}
