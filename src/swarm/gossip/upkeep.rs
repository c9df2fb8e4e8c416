//! Gossip's own tasks: keeping the have-map up to date, and putting questions in batches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use crate::torrent::InfoHash;

use super::Gossip;
use super::questions::{gather, is_met};
use super::topic::Holdings;

/// What this machine has is looked through at most so often: a crowd lives by hearing soon who has got something.
const HOLDINGS_INTERVAL: Duration = Duration::from_millis(250);
/// And at most for one part in so many of the time; it takes some 30 ms for 100,000 rows.
const HOLDINGS_SHARE: u32 = 30;
/// Files that somebody puts into or takes out of a seedbox's directory are noticed after this time.
const HOLDINGS_REFRESH: Duration = Duration::from_secs(60);
/// Running downloads that are told of.
const MAX_GETTING: usize = 64;

impl Gossip {
    /// Looks through what this machine has whenever that may have changed.
    pub(super) async fn watch_holdings(self: Arc<Self>) {
        let mut changes = self.book.changes();
        let mut releases = self.releases.subscribe();
        loop {
            let began = Instant::now();
            for topic in self.topics() {
                let (book, topic) = (self.book.clone(), topic.clone());
                // A panic in there ends gossip's news, and nothing else.
                let _ = tokio::task::spawn_blocking(move || {
                    let (releases, layers) = (topic.releases(), topic.layers());
                    let haves = book.select(&releases, &layers);
                    let running = book.running();
                    let rows = running.iter().flat_map(|ih| layers.rows_of(ih));
                    let getting = rows.take(MAX_GETTING).collect();
                    topic.set_holdings(Holdings { haves, getting });
                })
                .await;
            }
            let pause = HOLDINGS_INTERVAL.max(began.elapsed() * HOLDINGS_SHARE);
            let changed = async {
                tokio::time::sleep(pause).await;
                tokio::select! {
                    changed = changes.changed() => changed.is_ok(),
                    changed = releases.changed() => changed.is_ok(),
                    () = tokio::time::sleep(HOLDINGS_REFRESH) => true,
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                more = changed => if !more { return },
            }
        }
    }

    /// Puts what comes into a queue as questions, a batch at a time.
    pub(super) async fn ask(
        self: Arc<Self>,
        mut queue: mpsc::Receiver<InfoHash>,
        question: fn(&Self, &[InfoHash]),
    ) {
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                batch = gather(&mut queue) => match batch {
                    Some(batch) => question(&self, &batch),
                    None => return,
                },
            }
        }
    }

    pub(super) fn ask_for_holders(&self, info_hashes: &[InfoHash]) {
        for topic in self.topics() {
            let (layers, neighbours) = (topic.layers(), topic.neighbours());
            let mut open = info_hashes.to_vec();
            open.retain(|info_hash| !is_met(&neighbours, &layers.rows_of(info_hash)));
            for neighbour in &neighbours {
                self.questions.ask(neighbour, &topic, &open);
            }
        }
    }

    pub(super) fn ask_for_infos(&self, info_hashes: &[InfoHash]) {
        self.questions.ask_infos(&self.topics(), info_hashes);
    }
}
