//! A web server that does what a test tells it, and remembers what it was asked.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A drip comes so often.
const TICK: Duration = Duration::from_millis(50);

/// What the server says to one request.
pub enum Answer {
    Body(Vec<u8>),
    Status(u16),
    /// Announces the whole body, sends this much of it, and hangs up.
    Cut(Vec<u8>, usize),
    /// As `Cut`, by a server that knows ranges: the next one asks for the rest.
    CutRange(Vec<u8>, usize),
    /// Sends this much of the body, and then nothing, without hanging up.
    Stall(Vec<u8>, usize),
    /// Sends so many bytes of the body a second.
    Drip(Vec<u8>, u64),
    /// Says nothing at all, without hanging up.
    Silence,
    /// A body without an end.
    Endless,
    /// A file that is kept compressed, as S3 gives it: with this `Content-Encoding`.
    Encoded(Vec<u8>, &'static str),
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
    asked: Arc<Mutex<Vec<Asked>>>,
    stop: Arc<AtomicBool>,
}

struct Asked {
    /// `METHOD PATH`.
    what: String,
    /// The header lines.
    head: String,
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
            Arc::<Mutex<Vec<Asked>>>::default(),
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
        let asked = self.asked.lock().unwrap();
        asked.iter().map(|asked| asked.what.clone()).collect()
    }

    /// How many requests had `line` among their headers.
    pub fn asked_with(&self, line: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        let has = |asked: &&Asked| {
            let mut lines = asked.head.lines();
            lines.any(|found| found.eq_ignore_ascii_case(line))
        };
        asked.iter().filter(has).count()
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

fn serve(mut stream: TcpStream, asked: &Mutex<Vec<Asked>>, script: &Script) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split(' ').map(str::to_owned);
    let (Some(method), Some(target)) = (words.next(), words.next()) else {
        return Ok(());
    };
    let mut head = String::new();
    while reader.read_line(&mut head)? > 2 {}
    let from = range_start(&head);
    let what = format!("{method} {target}");
    asked.lock().unwrap().push(Asked { what, head });
    let whole = usize::MAX;
    let (status, body, sent) = match script(&target) {
        Answer::Endless => return endless(stream),
        Answer::Body(body) => (200, body, whole),
        Answer::Status(status) => (status, vec![], 0),
        Answer::Cut(body, sent) => (200, body, sent),
        Answer::Drip(body, rate) => return drip(&mut stream, &body, rate),
        Answer::Stall(body, sent) => {
            put_head(&mut stream, 200, body.len(), "")?;
            stream.write_all(&body[..sent])?;
            return wait_for_hang_up(&mut stream);
        }
        Answer::Silence => return wait_for_hang_up(&mut stream),
        Answer::Encoded(body, encoding) => {
            let encoding = format!("Content-Encoding: {encoding}\r\n");
            put_head(&mut stream, 200, body.len(), &encoding)?;
            return stream.write_all(&body);
        }
        Answer::CutRange(body, sent) => {
            let (size, from) = (body.len(), from.unwrap_or(0));
            let rest = &body[from..];
            let range = format!(
                "Accept-Ranges: bytes\r\nContent-Range: bytes {from}-{}/{size}\r\n",
                size - 1
            );
            put_head(
                &mut stream,
                if from > 0 { 206 } else { 200 },
                rest.len(),
                &range,
            )?;
            return stream.write_all(&rest[..sent.min(rest.len())]);
        }
    };
    put_head(&mut stream, status, body.len(), "")?;
    if method != "HEAD" {
        stream.write_all(&body[..sent.min(body.len())])?;
    }
    stream.flush()
}

fn put_head(stream: &mut TcpStream, status: u16, length: usize, more: &str) -> std::io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status} -\r\nContent-Length: {length}\r\n{more}Connection: close\r\n\r\n"
    )
}

fn drip(stream: &mut TcpStream, body: &[u8], rate: u64) -> std::io::Result<()> {
    put_head(stream, 200, body.len(), "")?;
    let each = (rate as f64 * TICK.as_secs_f64()).ceil() as usize;
    for chunk in body.chunks(each) {
        stream.write_all(chunk)?;
        thread::sleep(TICK);
    }
    Ok(())
}

fn wait_for_hang_up(stream: &mut TcpStream) -> std::io::Result<()> {
    while stream.read(&mut [0; 1024])? > 0 {}
    Ok(())
}

fn range_start(head: &str) -> Option<usize> {
    let line = head.lines().find_map(|line| {
        line.to_ascii_lowercase()
            .strip_prefix("range: bytes=")
            .map(str::to_owned)
    })?;
    line.trim_end_matches('-').parse().ok()
}

fn endless(mut stream: TcpStream) -> std::io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 -\r\nConnection: close\r\n\r\n")?;
    loop {
        // Until the client has had enough.
        stream.write_all(&[b'd'; 64 * 1024])?;
    }
}
