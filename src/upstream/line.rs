//! The connections to one upstream: they are made anew after a sleep, or when one of them was found dead. Whoever is not
//! heard on an old one may well be there.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::Client;

/// The clock on the wall goes on while a machine sleeps, `Instant` does not. A clock that is set looks the same, and costs
/// a handshake.
const ASLEEP: Duration = Duration::from_secs(5);

pub struct Line {
    make: Box<dyn Fn() -> reqwest::Result<Client> + Send + Sync>,
    current: Mutex<Current>,
}

struct Current {
    client: Client,
    heard: Instant,
    /// The same moment on the wall.
    heard_at: SystemTime,
}

impl Line {
    pub fn new(
        make: impl Fn() -> reqwest::Result<Client> + Send + Sync + 'static,
    ) -> reqwest::Result<Self> {
        let current = Mutex::new(Current {
            client: make()?,
            heard: Instant::now(),
            heard_at: SystemTime::now(),
        });
        let make = Box::new(make);
        Ok(Self { make, current })
    }

    /// To ask with.
    pub fn client(&self) -> Client {
        let mut current = self.lock();
        let awake = current.heard.elapsed();
        let passed = current.heard_at.elapsed().unwrap_or(awake);
        if passed > awake + ASLEEP {
            self.renew_now(&mut current);
        }
        current.client.clone()
    }

    /// The upstream has sent something.
    pub fn heard(&self) {
        let mut current = self.lock();
        current.heard = Instant::now();
        current.heard_at = SystemTime::now();
    }

    pub fn was_heard_since(&self, start: Instant) -> bool {
        self.lock().heard >= start
    }

    /// Connects anew for the next question.
    pub fn renew(&self) {
        self.renew_now(&mut self.lock());
    }

    fn renew_now(&self, current: &mut Current) {
        match (self.make)() {
            Ok(client) => current.client = client,
            Err(error) => tracing::debug!(%error, "the old HTTP client stays"),
        }
        current.heard = Instant::now();
        current.heard_at = SystemTime::now();
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    #[test]
    fn it_is_made_anew_after_a_sleep() {
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        let line = Line::new(move || {
            count.fetch_add(1, Relaxed);
            Ok(Client::new())
        });
        let line = line.unwrap();
        line.client();
        line.heard();
        line.client();
        assert_eq!(made.load(Relaxed), 1);
        // An hour on the wall in which nothing has passed here.
        line.lock().heard_at -= Duration::from_secs(3600);
        line.client();
        line.client();
        assert_eq!(made.load(Relaxed), 2);
    }
}
