//! Announces one topic on one HTTP tracker (BEP 3), again and again.
//!
//! Whoever runs the tracker, or sits on the way to it, decides neither how much is read nor how often it is asked.

use std::error::Error;
use std::time::Duration;

use reqwest::{Client, StatusCode};
use thiserror::Error;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::plain_http::{BodyError, read_body};
use super::trackers::TrackerPeers;
use crate::swarm::protocol::announce_client::{Answer, AnswerError, Event, Query};

/// A tracker that has not answered in full by then does not.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two announces, whatever the tracker wishes. Ours wish for a minute.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(60);
const LONGEST_INTERVAL: Duration = Duration::from_secs(3600);
/// After a failure; twice as long after each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// The program's end waits a little, and a tracker forgets who does not come back.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug, Error)]
enum TrackerError {
    #[error("it was not reached")]
    Request(#[source] reqwest::Error),
    #[error("it answered {0}")]
    Status(StatusCode),
    #[error(transparent)]
    Body(#[from] BodyError),
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

pub struct HttpTracker {
    pub url: Url,
    pub query: Query,
    pub client: Client,
    pub found: TrackerPeers,
}

impl HttpTracker {
    /// Until `running` ends. Where that is the end of the program, `stop`, the tracker is told.
    pub async fn run(self, running: CancellationToken, stop: CancellationToken) {
        let mut known_there = false;
        let rounds = self.rounds(&mut known_there);
        running.run_until_cancelled(rounds).await;
        if known_there && stop.is_cancelled() {
            let _ = timeout(FAREWELL, self.announce(Some(Event::Stopped))).await;
        }
    }

    async fn rounds(&self, known_there: &mut bool) {
        let mut failures = 0;
        loop {
            let event = (!*known_there).then_some(Event::Started);
            let pause = match self.announce(event).await {
                Ok(answer) => {
                    (*known_there, failures) = (true, 0);
                    let peers = answer.peers.into_iter();
                    peers.for_each(|peer| self.found.add(peer));
                    answer.interval.clamp(SHORTEST_INTERVAL, LONGEST_INTERVAL)
                }
                Err(error) => {
                    self.tell(&error, failures);
                    failures += 1;
                    pause_after(failures)
                }
            };
            sleep(pause).await;
        }
    }

    async fn announce(&self, event: Option<Event>) -> Result<Answer, TrackerError> {
        let mut url = self.url.clone();
        let ours = self.query.text(event);
        // Some trackers know their users by a query of the URL.
        let query = match self.url.query() {
            Some(theirs) => format!("{ours}&{theirs}"),
            None => ours,
        };
        url.set_query(Some(&query));
        let response = self.client.get(url).send().await;
        let response = response.map_err(|error| TrackerError::Request(error.without_url()))?;
        if !response.status().is_success() {
            return Err(TrackerError::Status(response.status()));
        }
        Ok(Answer::parse(&read_body(response).await?)?)
    }

    /// The first failure of several is news. Of the URL only what holds no password.
    fn tell(&self, error: &TrackerError, failures_before: u32) {
        let tracker = self.url.origin().ascii_serialization();
        let error: &dyn Error = error;
        match failures_before {
            0 => tracing::info!(tracker, error, "the tracker is of no use for now"),
            _ => tracing::debug!(tracker, error, failures_before, "the tracker is of no use"),
        }
    }
}

fn pause_after(failures: u32) -> Duration {
    let doubled = 2u32.saturating_pow(failures.saturating_sub(1));
    FIRST_PAUSE.saturating_mul(doubled).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::discovery::lab::HttpServer;
    use crate::swarm::discovery::plain_http::{self, MAX_BODY};
    use crate::swarm::share::{Share, SharePolicy};
    use crate::torrent::InfoHash;
    use std::sync::Arc;

    fn tracker(server: &HttpServer) -> HttpTracker {
        HttpTracker {
            url: server.url("/announce?user=me").parse().unwrap(),
            query: Query {
                info_hash: InfoHash::from_bytes([7; 20]),
                peer_id: [8; 20],
                port: 6881,
                key: 9,
            },
            client: plain_http::client(ANSWER_TIMEOUT).unwrap(),
            found: TrackerPeers {
                peers: Arc::default(),
                policy: Arc::new(SharePolicy::new(Share::Public, vec![])),
                port: 6881,
                tracker: None,
            },
        }
    }

    #[tokio::test]
    async fn no_tracker_sets_the_pace() {
        let mut server = HttpServer::start(|_| HttpServer::ok(b"d8:intervali0e5:peers0:e")).await;
        let (running, stop) = (CancellationToken::new(), CancellationToken::new());
        let task = tokio::spawn(tracker(&server).run(running.clone(), stop.clone()));
        let first = server.asked().await;
        assert!(
            first.contains("event=started") && first.contains("&user=me "),
            "{first}"
        );
        let second = timeout(Duration::from_secs(3), server.asked()).await;
        assert!(second.is_err(), "asked again at once: {second:?}");

        // At the program's end it is told.
        stop.cancel();
        running.cancel();
        let last = server.asked().await;
        assert!(last.contains("event=stopped"), "{last}");
        task.await.unwrap();
    }

    #[tokio::test]
    async fn an_answer_ends_at_the_bound() {
        let endless = |_: &str| {
            let body = b"d".repeat(16 * MAX_BODY);
            [
                b"HTTP/1.1 200 -\r\nConnection: close\r\n\r\n".as_slice(),
                &body,
            ]
            .concat()
        };
        let server = HttpServer::start(endless).await;
        let error = tracker(&server).announce(None).await.unwrap_err();
        let too_large = matches!(error, TrackerError::Body(BodyError::TooLarge));
        assert!(too_large, "{error:?}");
    }

    #[tokio::test]
    async fn who_refuses_gives_no_peers() {
        let server = HttpServer::start(|_| b"HTTP/1.1 302 -\r\nLocation: /\r\n\r\n".to_vec()).await;
        let error = tracker(&server).announce(None).await.unwrap_err();
        assert!(matches!(error, TrackerError::Status(_)), "{error:?}");
        let server = HttpServer::start(|_| HttpServer::ok(b"d14:failure reason2:noe")).await;
        let error = tracker(&server).announce(None).await.unwrap_err();
        assert_eq!(error.to_string(), r#"it refuses: "no""#);
    }

    #[test]
    fn pauses_grow_up_to_a_bound() {
        let seconds = |failures| pause_after(failures).as_secs();
        assert_eq!([1, 2, 3, 7, u32::MAX].map(seconds), [10, 20, 40, 600, 600]);
    }
}
