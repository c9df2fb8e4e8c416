//! A web server that does what a test tells it, and remembers what it was asked.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// What the server says to one request.
pub enum Answer {
    Body(Vec<u8>),
    Status(u16),
    /// Announces the whole body, sends this much of it, and hangs up.
    Cut(Vec<u8>, usize),
}

impl Answer {
    /// The file of this name in `directory`, or 404.
    pub fn file(directory: &Path, path: &str) -> Self {
        let plain = path.trim_start_matches('/');
        match fs::read(directory.join(plain)) {
            Ok(body) if !plain.split('/').any(|part| part == "..") => Self::Body(body),
            _ => Self::Status(404),
        }
    }
}

type Script = dyn Fn(&str) -> Answer + Send + Sync;

pub struct HttpServer {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
}

impl HttpServer {
    /// Listens on a free port of loopback; `script` answers each path.
    pub fn start(script: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        Self::listen((Ipv4Addr::LOCALHOST, 0).into(), script)
    }

    pub fn listen(
        address: SocketAddr,
        script: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let (asked, stop) = (
            Arc::<Mutex<Vec<String>>>::default(),
            Arc::<AtomicBool>::default(),
        );
        let script: Arc<Script> = Arc::new(script);
        thread::spawn({
            let (asked, stop) = (asked.clone(), stop.clone());
            move || {
                for stream in listener.incoming() {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let (asked, script) = (asked.clone(), script.clone());
                    // A client that hangs up is its own affair.
                    thread::spawn(move || {
                        stream.and_then(|stream| serve(stream, &asked, &*script))
                    });
                }
            }
        });
        Self {
            address,
            asked,
            stop,
        }
    }

    /// Serves a directory.
    pub fn directory(path: &Path) -> Self {
        let path = path.to_owned();
        Self::start(move |asked| Answer::file(&path, asked))
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The paths that were asked for, in order, as `METHOD PATH`.
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }

    /// How many of them have `part` in them.
    pub fn asked_for(&self, part: &str) -> usize {
        self.asked()
            .iter()
            .filter(|asked| asked.contains(part))
            .count()
    }

    pub fn forget(&self) {
        self.asked.lock().unwrap().clear();
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<String>>,
    script: &Script,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    loop {
        let mut header = String::new();
        if reader.read_line(&mut header)? <= 2 {
            break;
        }
    }
    asked.lock().unwrap().push(format!("{method} {target}"));
    let (status, body, sent) = match script(&target) {
        Answer::Body(body) => (200, body, usize::MAX),
        Answer::Status(status) => (status, vec![], 0),
        Answer::Cut(body, sent) => (200, body, sent),
    };
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    )?;
    if method != "HEAD" {
        stream.write_all(&body[..sent.min(length)])?;
    }
    stream.flush()
}
