//! A breaker: after a failure an upstream is not asked at all, until a probe has found it well. Whoever asks while it is
//! probed waits for that: the first question after an outage must not be the one that is refused.

use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// The first pause; a blip is over by then.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// An upstream that is back after a long outage is noticed this late at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    Closed,
    Open,
}

impl BreakerState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "ok",
            Self::Open => "down",
        }
    }
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    Ask,
    /// Do not ask, and do not wait.
    Refuse,
    /// A probe is under way: wait until it has `settled`.
    Wait,
    /// As `Wait`, but whoever gets this starts the probe.
    Probe,
}

#[derive(Default)]
pub struct Breaker {
    open: Mutex<Option<Open>>,
    probed: Notify,
}

struct Open {
    pause: Duration,
    probe_at: Instant,
    probing: bool,
    error: String,
}

impl Breaker {
    pub fn permission(&self) -> Permission {
        match self.lock().as_mut() {
            None => Permission::Ask,
            Some(open) if open.probing => Permission::Wait,
            Some(open) if Instant::now() < open.probe_at => Permission::Refuse,
            Some(open) => {
                open.probing = true;
                Permission::Probe
            }
        }
    }

    /// Resolves when no probe is under way.
    pub async fn settled(&self) {
        loop {
            let probed = self.probed.notified();
            if !self.lock().as_ref().is_some_and(|open| open.probing) {
                return;
            }
            probed.await;
        }
    }

    pub fn succeeded(&self) {
        *self.lock() = None;
        self.probed.notify_waiters();
    }

    pub fn failed(&self, error: String) {
        let mut open = self.lock();
        if open.is_none() {
            tracing::warn!("an upstream is down: {error}");
        }
        let pause = match &*open {
            None => FIRST_PAUSE,
            Some(open) if open.probing => (open.pause * 2).min(LONGEST_PAUSE),
            // Requests that were under way together are one failure.
            Some(open) => open.pause,
        };
        *open = Some(Open {
            pause,
            probe_at: Instant::now() + pause,
            probing: false,
            error,
        });
        drop(open);
        self.probed.notify_waiters();
    }

    pub fn state(&self) -> BreakerState {
        if self.lock().is_some() {
            BreakerState::Open
        } else {
            BreakerState::Closed
        }
    }

    pub fn last_error(&self) -> Option<String> {
        self.lock().as_ref().map(|open| open.error.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_probes_once_and_closes() {
        let breaker = Breaker::default();
        assert_eq!(breaker.permission(), Permission::Ask);
        breaker.failed("timed out".into());
        breaker.failed("timed out".into());
        assert_eq!(
            breaker.lock().as_ref().unwrap().pause,
            FIRST_PAUSE,
            "parallel failures count once"
        );
        assert_eq!(
            (breaker.permission(), breaker.state()),
            (Permission::Refuse, BreakerState::Open)
        );
        breaker.lock().as_mut().unwrap().probe_at = Instant::now();
        assert_eq!(breaker.permission(), Permission::Probe);
        assert_eq!(breaker.permission(), Permission::Wait);
        breaker.failed("again".into());
        assert_eq!(breaker.permission(), Permission::Refuse);
        assert_eq!(breaker.lock().as_ref().unwrap().pause, FIRST_PAUSE * 2);
        assert_eq!(breaker.last_error().as_deref(), Some("again"));
        breaker.succeeded();
        assert_eq!(
            (breaker.permission(), breaker.last_error()),
            (Permission::Ask, None)
        );
    }
}
