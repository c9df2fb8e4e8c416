//! The threads that encode: a few, nicer than the rest of the program, so that payloads are made again from what others
//! leave of the cores.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

use super::offer::OfferError;

/// A thread that has had nothing to do for so long ends.
const KEPT: Duration = Duration::from_secs(20);

/// How much of the machine payloads may take that are made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recreation {
    /// Frames that are made at a time; one per core unless said.
    pub threads: Option<usize>,
    /// What these threads' nice value is raised to, if it is lower: 0 to 19.
    pub nice: u8,
}

pub struct Encoding {
    /// Work that waits for a thread waits here, where it can be given up.
    free: Arc<Semaphore>,
    /// Only its blocking threads are used. `None` only while it is dropped.
    threads: Option<Runtime>,
}

impl Encoding {
    pub fn new(recreation: Recreation) -> std::io::Result<Self> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let threads = recreation.threads.unwrap_or_else(cores).max(1);
        let runtime = Builder::new_current_thread()
            .max_blocking_threads(threads)
            .thread_keep_alive(KEPT)
            .thread_name("recreate")
            .on_thread_start(move || be_nice(recreation.nice.into()))
            .build()?;
        Ok(Self {
            free: Arc::new(Semaphore::new(threads)),
            threads: Some(runtime),
        })
    }

    /// Runs `work` as soon as a thread is free.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, OfferError> {
        let free = self.free.clone().acquire_owned().await;
        let (Ok(place), Some(threads)) = (free, &self.threads) else {
            return Err(OfferError::Stopping);
        };
        let done = threads.spawn_blocking(move || {
            let _place = place;
            work()
        });
        done.await.map_err(|_| OfferError::Stopping)
    }
}

impl Drop for Encoding {
    fn drop(&mut self) {
        // A runtime may not wait for its threads where others run.
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
    }
}

/// On Linux niceness is each thread's own. A sandbox may forbid it: then the thread is as nice as the program.
fn be_nice(nice: i32) {
    use rustix::process::{getpriority_process, setpriority_process};
    if getpriority_process(None).is_ok_and(|now| now < nice) {
        let _ = setpriority_process(None, nice);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn threads_are_few_and_nicer_than_the_program() {
        let ours = getpriority_process(None).unwrap();
        let nice = (ours + 3).min(19);
        let encoding = Encoding::new(Recreation {
            threads: Some(2),
            nice: nice as u8,
        });
        let encoding = encoding.unwrap();
        let running = AtomicUsize::new(0);
        let running: &'static AtomicUsize = Box::leak(Box::new(running));
        let work = || {
            encoding.run(|| {
                let others = running.fetch_add(1, Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
                running.fetch_sub(1, Ordering::SeqCst);
                (others, getpriority_process(None).unwrap())
            })
        };
        for done in futures_util::future::join_all((0..10).map(|_| work())).await {
            let (others, niceness) = done.unwrap();
            assert!(others < 2);
            assert_eq!(niceness, nice);
        }
        assert_eq!(getpriority_process(None).unwrap(), ours);
    }
}
