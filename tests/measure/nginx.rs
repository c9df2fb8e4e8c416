//! nginx as the web server of a binary cache: what ours is compared with.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use crate::cpu_time;
use crate::lab::Place;
use crate::need;

/// It answers within this time or not at all.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

pub struct Nginx {
    child: Child,
    pub address: SocketAddr,
}

impl Nginx {
    /// Serves the directory `root` at `address`; its own files go below `work`.
    pub fn start(root: &Path, work: &Path, at: &Place, address: SocketAddr) -> Self {
        need::program("nginx", "nginx-light");
        fs::create_dir_all(work).unwrap();
        let conf = work.join("nginx.conf");
        let text = format!(
            "daemon off; worker_processes 1; pid {work}/pid; error_log stderr crit; user root;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log off; sendfile on; tcp_nopush on; tcp_nodelay on; keepalive_requests 1000000;\n\
               client_body_temp_path {work}; proxy_temp_path {work}; fastcgi_temp_path {work};\n\
               uwsgi_temp_path {work}; scgi_temp_path {work};\n\
               server {{ listen {address}; root {root}; }}\n\
             }}\n",
            work = work.display(),
            root = root.display()
        );
        fs::write(&conf, text).unwrap();
        let mut command = at.command("nginx");
        command.args(["-e", "stderr", "-c"]).arg(&conf);
        let nginx = Self {
            child: command.spawn().unwrap(),
            address,
        };
        let start = Instant::now();
        while at.run(|| TcpStream::connect(address).is_err()) {
            assert!(
                start.elapsed() < PATIENCE,
                "nginx does not answer at {address}"
            );
            thread::sleep(PAUSE);
        }
        nginx
    }

    /// Seconds of CPU of the worker.
    pub fn cpu(&self) -> f64 {
        let master = self.child.id();
        let children = format!("/proc/{master}/task/{master}/children");
        let children = fs::read_to_string(children).unwrap();
        let ids = children.split_ascii_whitespace();
        ids.map(|id| cpu_time::of_process(id.parse().unwrap()))
            .sum()
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // SIGTERM lets the worker go too, SIGKILL would leave it.
        let _ = Command::new("kill")
            .arg(self.child.id().to_string())
            .output();
        let _ = self.child.wait();
    }
}
