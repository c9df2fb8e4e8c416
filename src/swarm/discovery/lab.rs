//! An HTTP server for tests: it answers with the bytes that it is told to send, and hangs up.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{self, UnboundedReceiver};

pub struct HttpServer {
    pub address: SocketAddr,
    requests: UnboundedReceiver<String>,
}

impl HttpServer {
    /// On a free port of loopback; `script` makes the answer to each request.
    pub async fn start(script: impl Fn(&str) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (told, requests) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let request = read_request(&mut stream).await;
                let answer = script(&request);
                let _ = told.send(request);
                // A client that hangs up is its own affair.
                let _ = stream.write_all(&answer).await;
            }
        });
        Self { address, requests }
    }

    /// An answer with this body.
    pub fn ok(body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("HTTP/1.1 200 -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn was_not_asked(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }

    /// The next request, head and body.
    pub async fn asked(&mut self) -> String {
        self.requests.recv().await.unwrap()
    }
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    while stream.read_line(&mut request).await.unwrap() > 2 {}
    let lower = request.to_ascii_lowercase();
    let length = lower
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).await.unwrap();
    request + &String::from_utf8(body).unwrap()
}
