//! What an upload waits for beside its peer; what cannot come is waited for without end.

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::swarm::seeding::crowds::Line;

/// Resolves when a running download has more pieces; never for a whole payload.
pub async fn changed(progress: &mut Option<watch::Receiver<u32>>) {
    let ended = match progress {
        Some(receiver) => receiver.changed().await.is_err(),
        None => true,
    };
    if ended {
        *progress = None;
        std::future::pending::<()>().await;
    }
}

/// Whether `changed` would resolve now; it will not for the same pieces.
pub fn has_news(progress: &mut Option<watch::Receiver<u32>>) -> bool {
    progress.as_mut().is_some_and(|receiver| {
        let news = receiver.has_changed().unwrap_or(false);
        receiver.mark_unchanged();
        news
    })
}

pub async fn changed_line(line: Option<&Line>) {
    match line {
        Some(line) => line.changed().await,
        None => std::future::pending().await,
    }
}

pub async fn at(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
