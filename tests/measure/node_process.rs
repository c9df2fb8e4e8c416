//! A real `narswarm agent` or `narswarm seedbox`, in a process of its own.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::cpu_time;
use crate::lab::{PROGRAM, Place};

/// From one look at the status to the next.
const PAUSE: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

pub struct NodeProcess {
    child: Child,
    place: Place,
    pub shim: SocketAddr,
    pub peer: SocketAddr,
}

impl NodeProcess {
    /// Starts it with `state` and the other sections of its configuration; returns when it is ready.
    pub fn start(role: &str, state: &Path, sections: &str) -> Self {
        Self::start_at(&Place::Here, role, state, sections)
    }

    pub fn start_at(place: &Place, role: &str, state: &Path, sections: &str) -> Self {
        let file = state.with_extension("toml");
        fs::write(
            &file,
            format!("state = \"{}\"\n{sections}", state.display()),
        )
        .unwrap();
        let mut command = place.command(PROGRAM);
        command.args([role, "--config"]).arg(&file);
        if std::env::var_os("RUST_LOG").is_none() {
            command.env("RUST_LOG", "narswarm=error");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line)
            .unwrap_or_else(|_| panic!("{role} said '{line}' with {}", file.display()));
        let address = |key: &str| ready[key].as_str().unwrap().parse().unwrap();
        let (shim, peer) = (address("shim"), address("peer"));
        Self {
            child,
            place: place.clone(),
            shim,
            peer,
        }
    }

    /// A seedbox without limits, seeding what `source` (`store` or `payloads`) finds at `location`.
    pub fn seedbox(state: &Path, source: &str, location: &Path, channel: &str) -> Self {
        let sections = format!(
            "[hold]\nsource = \"{source}\"\nlocation = \"{}\"\n{}{channel}",
            location.display(),
            quiet_swarm("10GB/s")
        );
        Self::start("seedbox", state, &sections)
    }

    pub fn cpu(&self) -> f64 {
        cpu_time::of_process(self.child.id())
    }

    /// A line of /proc/PID/status, such as VmRSS, in bytes.
    pub fn memory(&self, line: &str) -> f64 {
        let path = format!("/proc/{}/status", self.child.id());
        let status = fs::read_to_string(path).unwrap();
        let value = status.lines().find_map(|found| found.strip_prefix(line));
        let value = value.unwrap().trim_start_matches(':').trim();
        let kilobytes: f64 = value.trim_end_matches(" kB").parse().unwrap();
        kilobytes * 1024.0
    }

    /// How often its threads have gone to sleep so far, which is how often something woke them.
    pub fn wakeups(&self) -> u64 {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let count = |status: String| {
            let mut lines = status.lines();
            let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            count.map_or(0, |count| count.trim().parse().unwrap())
        };
        // A thread that ends meanwhile has no status.
        let statuses =
            tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
        statuses.map(count).sum::<u64>()
    }

    pub fn connect(&self) -> Connection {
        self.place.run(|| Connection::open(self.shim))
    }

    pub fn status(&self) -> Value {
        let (_, body) = self.connect().get("/status.json");
        serde_json::from_slice(&body).unwrap()
    }

    /// The status as soon as `condition` holds for it.
    pub fn wait(&self, condition: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if condition(&status) {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "waited in vain: {status}");
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `[swarm]` on loopback, found by nobody.
pub fn quiet_swarm(upload_limit: &str) -> String {
    format!(
        "[swarm]\nlisten = \"127.0.0.1:0\"\nupload_limit = \"{upload_limit}\"\ndht = false\nlsd = false\n"
    )
}

/// A connection to the shim that is kept open, as Nix keeps its own.
pub struct Connection {
    stream: BufReader<TcpStream>,
    /// What bodies are thrown away in.
    waste: Vec<u8>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream: BufReader::new(stream),
            waste: vec![0; 256 * 1024],
        }
    }

    /// Status and body.
    pub fn get(&mut self, path: &str) -> (u16, Vec<u8>) {
        let (status, length) = self.ask(path);
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).unwrap();
        (status, body)
    }

    /// The length of a body that nobody needs.
    pub fn get_and_forget(&mut self, path: &str) -> u64 {
        let (status, length) = self.ask(path);
        assert_eq!(status, 200, "{path}");
        let mut left = length;
        while left > 0 {
            let most = left.min(self.waste.len());
            match self.stream.read(&mut self.waste[..most]).unwrap() {
                0 => panic!("{path} was cut"),
                n => left -= n,
            }
        }
        length as u64
    }

    /// Status and length.
    fn ask(&mut self, path: &str) -> (u16, usize) {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        self.stream.get_mut().write_all(request.as_bytes()).unwrap();
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let header = line.trim().to_ascii_lowercase();
            if header.is_empty() {
                return (status, length);
            }
            if let Some(value) = header.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
    }
}
