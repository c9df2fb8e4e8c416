//! Progress of long work: a bar on a terminal, a plain line now and then elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::config::Size;
use crate::publish::Progress;

/// Between two plain lines.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Bytes and items of one long job, on stderr.
pub struct Bar {
    what: &'static str,
    bar: Option<ProgressBar>,
    total: AtomicU64,
    items: AtomicU64,
    done: AtomicU64,
    items_done: AtomicU64,
    last_line: Mutex<Instant>,
}

impl Bar {
    pub fn new(what: &'static str) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(0);
            let style = ProgressStyle::with_template(
                "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}",
            );
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        let zero = AtomicU64::default;
        Self {
            what,
            bar,
            total: zero(),
            items: zero(),
            done: zero(),
            items_done: zero(),
            last_line: Mutex::new(Instant::now()),
        }
    }

    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn line(&self) {
        let mut last = self.last_line.lock().unwrap_or_else(|e| e.into_inner());
        if last.elapsed() >= LINE_INTERVAL {
            *last = Instant::now();
            let (done, total) = (
                Size(self.done.load(Relaxed)),
                Size(self.total.load(Relaxed)),
            );
            let (items_done, items) = (self.items_done.load(Relaxed), self.items.load(Relaxed));
            eprintln!(
                "{}: {items_done} of {items} paths, {done} of {total}",
                self.what
            );
        }
    }
}

impl Progress for Bar {
    fn begin(&self, items: u64, bytes: u64) {
        self.total.store(bytes, Relaxed);
        self.items.store(items, Relaxed);
        match &self.bar {
            Some(bar) => {
                bar.set_length(bytes);
                bar.set_message(format!("{} {items} paths", self.what));
            }
            None if items > 0 => eprintln!("{}: {items} paths, {}", self.what, Size(bytes)),
            None => {}
        }
    }

    fn read(&self, bytes: u64) {
        self.done.fetch_add(bytes, Relaxed);
        match &self.bar {
            Some(bar) => bar.inc(bytes),
            None => self.line(),
        }
    }

    fn path_done(&self) {
        self.items_done.fetch_add(1, Relaxed);
    }
}
