//! The connections to one upstream. They are made anew after a sleep, or when a question on them got no answer: whoever is
//! not heard on an old one may well be there.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use reqwest::Client;

/// The clock on the wall goes on while a machine sleeps, `Instant` does not. A clock that is set looks the same, and costs
/// a handshake.
const ASLEEP: Duration = Duration::from_secs(5);
/// Bodies that brought something so lately are coming.
const FLOWING: Duration = Duration::from_secs(1);
/// Questions in a row that a full line excuses. It is not the reason for ever.
const EXCUSED: u32 = 3;

pub struct Line {
    make: Box<dyn Fn() -> reqwest::Result<Client> + Send + Sync>,
    state: Mutex<State>,
}

struct State {
    client: Client,
    made: Instant,
    /// When it was last asked with, here and on the wall.
    used: (Instant, SystemTime),
    /// When a body last brought something.
    flowed: Option<Instant>,
    /// How many in a row, and when the last one was.
    excused: u32,
    excused_at: Option<Instant>,
}

impl Line {
    pub fn new(
        make: impl Fn() -> reqwest::Result<Client> + Send + Sync + 'static,
    ) -> reqwest::Result<Self> {
        let state = Mutex::new(State {
            client: make()?,
            made: Instant::now(),
            used: (Instant::now(), SystemTime::now()),
            flowed: None,
            excused: 0,
            excused_at: None,
        });
        let make = Box::new(make);
        Ok(Self { make, state })
    }

    /// To ask with.
    pub fn client(&self) -> Client {
        let now = (Instant::now(), SystemTime::now());
        let mut state = self.lock();
        let used = std::mem::replace(&mut state.used, now);
        let awake = now.0.saturating_duration_since(used.0);
        let passed = now.1.duration_since(used.1).unwrap_or(awake);
        // Who asks at the same time waits for it: milliseconds, where an old connection costs seconds.
        if passed > awake + ASLEEP
            && let Some(client) = self.make()
        {
            state.client = client;
            state.made = Instant::now();
        }
        state.client.clone()
    }

    /// A question that began then got no answer. The next one connects anew, unless that was seen to already.
    pub fn renew(&self, began: Instant) {
        if self.lock().made > began {
            return;
        }
        if let Some(client) = self.make() {
            let mut state = self.lock();
            state.client = client;
            state.made = Instant::now();
        }
    }

    fn make(&self) -> Option<Client> {
        (self.make)()
            .inspect_err(|error| tracing::debug!(%error, "the old HTTP client stays"))
            .ok()
    }

    /// A body has brought something.
    pub fn flows(&self) {
        self.lock().flowed = Some(Instant::now());
    }

    pub fn answered(&self) {
        self.lock().excused = 0;
    }

    /// Whether a question that began then went without an answer only because bodies fill the line.
    pub fn excuses(&self, began: Instant) -> bool {
        let mut state = self.lock();
        if state.flowed.is_none_or(|at| at.elapsed() > FLOWING) {
            return false;
        }
        // Those that were under way together are one.
        if state.excused_at.is_some_and(|excused| began <= excused) {
            return true;
        }
        let excuses = state.excused < EXCUSED;
        if excuses {
            state.excused += 1;
            state.excused_at = Some(Instant::now());
        }
        excuses
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

    use super::*;

    fn counted() -> (Line, Arc<AtomicU32>) {
        let made = Arc::new(AtomicU32::new(0));
        let count = made.clone();
        let line = Line::new(move || {
            count.fetch_add(1, Relaxed);
            Ok(Client::new())
        });
        (line.unwrap(), made)
    }

    #[test]
    fn it_is_made_anew_after_a_sleep() {
        let (line, made) = counted();
        line.client();
        line.client();
        assert_eq!(made.load(Relaxed), 1);
        // An hour on the wall in which nothing has passed here.
        line.lock().used.1 -= Duration::from_secs(3600);
        line.client();
        line.client();
        assert_eq!(made.load(Relaxed), 2);
    }

    #[test]
    fn questions_that_failed_together_make_it_anew_once() {
        let (line, made) = counted();
        let began = Instant::now();
        (0..25).for_each(|_| line.renew(began));
        assert_eq!(made.load(Relaxed), 2);
        line.renew(Instant::now());
        assert_eq!(made.load(Relaxed), 3);
    }

    #[test]
    fn bodies_that_flow_excuse_a_few_questions() {
        let (line, _) = counted();
        let together = Instant::now();
        assert!(!line.excuses(together));
        line.flows();
        assert!((0..10).all(|_| line.excuses(together)));
        let one_after_another = || (0..10).filter(|_| line.excuses(Instant::now())).count();
        assert_eq!(one_after_another(), EXCUSED as usize - 1);
        line.answered();
        line.flows();
        assert_eq!(one_after_another(), EXCUSED as usize);
    }
}
