//! A small HTTP client that hides nothing: the head as it was sent, and how long the answer took.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Stdio,
    time::{Duration, Instant},
};

use super::Place;

/// Longer than anything that a test expects.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Copies a request to a connection and the answer back; $0 is the host, $1 the port.
const BASH: &str = "exec 3<>/dev/tcp/$0/$1 && cat >&3 && cat <&3";

pub struct Response {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub elapsed: Duration,
}

impl Response {
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// A field of a narinfo or of nix-cache-info.
    #[track_caller]
    pub fn field(&self, name: &str) -> &str {
        let found = self
            .text()
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        found.unwrap_or_else(|| panic!("no {name} in {}", self.text()))
    }
}

#[track_caller]
pub fn get(address: SocketAddr, path: &str) -> Response {
    request(address, "GET", path, &[])
}

#[track_caller]
pub fn head(address: SocketAddr, path: &str) -> Response {
    request(address, "HEAD", path, &[])
}

#[track_caller]
pub fn request(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    request_in(&Place::Here, address, method, path, headers)
}

/// Asks from another place, where this process cannot go: bash copies the bytes.
#[track_caller]
pub fn request_in(
    place: &Place,
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Response {
    let more: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    let named = headers
        .iter()
        .any(|(name, _)| name.eq_ignore_ascii_case("host"));
    let host = match named {
        true => String::new(),
        false => format!("Host: {address}\r\n"),
    };
    let request = format!("{method} {path} HTTP/1.1\r\n{host}Connection: close\r\n{more}\r\n");
    let start = Instant::now();
    let mut bytes = Vec::new();
    match place {
        Place::Here => {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(TIMEOUT)).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            // A connection that is cut shows as a body that is too short.
            let read = stream.read_to_end(&mut bytes);
            assert!(
                read.is_ok() || !bytes.is_empty(),
                "{method} {path}: {read:?}"
            );
        }
        Place::Namespace(_) => {
            let mut command = place.command("bash");
            command.args([
                "-c",
                BASH,
                &address.ip().to_string(),
                &address.port().to_string(),
            ]);
            let mut child = command
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(request.as_bytes())
                .unwrap();
            bytes = child.wait_with_output().unwrap().stdout;
        }
    }
    parse(&bytes, start.elapsed())
}

#[track_caller]
fn parse(bytes: &[u8], elapsed: Duration) -> Response {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| {
        panic!(
            "no HTTP answer: {}",
            bytes[..bytes.len().min(500)].escape_ascii()
        )
    });
    let head = std::str::from_utf8(&bytes[..end]).unwrap();
    let (line, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_owned(), value.trim().to_owned())
    };
    let headers = rest.lines().map(header).collect();
    let mut response = Response {
        status,
        headers,
        body: bytes[end + 4..].to_vec(),
        elapsed,
    };
    if response.header("transfer-encoding") == Some("chunked") {
        response.body = unchunk(&response.body);
    }
    response
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let end = bytes
            .windows(2)
            .position(|window| window == b"\r\n")
            .unwrap();
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&bytes[end + 2..][..size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}
