//! Which source gives the next bytes: one at a time while all is well, a second one when the first is late, slow or
//! silent; whoever has the bytes first goes on, and the loser is cancelled.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::runtime::Source;

use super::lane::Lane;
use super::plan::{Candidate, Means, Plan};
use super::source::SourceError;

pub struct Race<'a> {
    plan: &'a Plan,
    means: &'a Means,
    /// The candidate that is started next.
    next: usize,
    /// At most two, the older first.
    lanes: Vec<Lane>,
    /// Whether Nix's first byte has been found.
    begun: bool,
    /// Candidates whose bytes were used.
    used: Vec<usize>,
    last_error: SourceError,
}

enum Event {
    Bytes(usize, Bytes),
    Ended(usize, SourceError),
    /// The lane that runs alone has had its time.
    Reinforce,
}

impl<'a> Race<'a> {
    pub fn new(plan: &'a Plan, means: &'a Means) -> Self {
        Self {
            plan,
            means,
            next: 0,
            lanes: Vec::new(),
            begun: false,
            used: Vec::new(),
            last_error: SourceError::Absent,
        }
    }

    /// The next bytes at `position`, or the last error when no candidate is left.
    pub async fn next(&mut self, position: u64) -> Result<(Bytes, Source), SourceError> {
        loop {
            if self.lanes.is_empty() && !self.start(|_| true) {
                return Err(std::mem::replace(&mut self.last_error, SourceError::Absent));
            }
            match self.wait(position).await {
                Event::Bytes(i, bytes) => return Ok((bytes, self.won(i))),
                Event::Ended(i, error) => {
                    let lane = self.lanes.remove(i);
                    self.lost(&lane, &error);
                    self.last_error = error;
                }
                Event::Reinforce => {
                    self.start(Candidate::is_promising);
                }
            }
        }
    }

    /// The candidates whose bytes were used so far.
    pub fn used(&self) -> impl Iterator<Item = &'a Candidate> {
        self.used.iter().map(|i| &self.plan.candidates[*i])
    }

    /// The bytes so far were wrong, and Nix has none of them: those that are not in quarantine begin anew.
    pub fn start_over(&mut self) {
        self.lanes.clear();
        self.used.clear();
        self.next = 0;
        self.begun = false;
    }

    /// The NAR is complete: remembers who delivered.
    pub fn finish(self) {
        for lane in &self.lanes {
            match lane.source {
                Source::Store => {}
                Source::Swarm => self.means.experience.swarm_delivered(),
                Source::Upstream => self
                    .means
                    .experience
                    .upstream_delivered(lane.at(), lane.age()),
            }
            self.means.counters.wasted(lane.skipped());
        }
    }

    /// Starts the next candidate that is `fit` and was not caught lying about this NAR.
    fn start(&mut self, fit: impl Fn(&Candidate) -> bool) -> bool {
        let fit = |candidate: &Candidate| {
            fit(candidate) && !self.means.quarantine.has(&candidate.culprit(self.plan))
        };
        let mut rest = self.plan.candidates.iter().enumerate().skip(self.next);
        let Some((i, candidate)) = rest.find(|(_, candidate)| fit(candidate)) else {
            return false;
        };
        self.next = i + 1;
        self.lanes.push(Lane::new(
            i,
            candidate.source(),
            candidate.open(self.plan, self.means),
        ));
        true
    }

    async fn wait(&mut self, position: u64) -> Event {
        let patience = self.patience(position);
        let mut advancing: FuturesUnordered<_> = self
            .lanes
            .iter_mut()
            .enumerate()
            .map(|(i, lane)| async move { (i, lane.advance(position).await) })
            .collect();
        let reinforce = async {
            match patience {
                Some(patience) => tokio::time::sleep(patience).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            // A source that has something is heard before a clock that has run out.
            biased;
            Some((i, result)) = advancing.next() => match result {
                Ok(Some(bytes)) => Event::Bytes(i, bytes),
                // It ended in good order, and before the NAR does.
                Ok(None) => Event::Ended(i, SourceError::WrongNar),
                Err(error) => Event::Ended(i, error),
            },
            () = reinforce => Event::Reinforce,
        }
    }

    /// How long the only lane is given; `None` when there is nobody to bring in.
    fn patience(&self, position: u64) -> Option<Duration> {
        let others = &self.plan.candidates[self.next..];
        let [lane] = &self.lanes[..] else {
            return None;
        };
        if !others.iter().any(Candidate::is_promising) {
            return None;
        }
        let experience = &self.means.experience;
        if self.begun
            && lane.source == Source::Swarm
            && experience.is_too_slow(position, lane.age(), self.plan.nar_size)
        {
            return Some(Duration::ZERO);
        }
        let head_start = experience.head_start(lane.source, self.is_known(), self.begun);
        Some(if self.begun {
            head_start
        } else {
            head_start.saturating_sub(lane.age())
        })
    }

    /// Whether the swarm's info dict is here.
    fn is_known(&self) -> bool {
        let downloads = self.means.downloads.as_ref();
        downloads
            .zip(self.plan.payload())
            .is_some_and(|(downloads, payload)| downloads.knows(&payload))
    }

    /// Lane `i` has the next bytes: a lane that was brought in later has overtaken the older one, which ends; a first
    /// byte ends the race for it.
    fn won(&mut self, i: usize) -> Source {
        let overtaken = i > 0;
        if self.lanes.len() > 1 && (overtaken || !self.begun) {
            let winner = self.lanes.remove(i);
            for loser in std::mem::take(&mut self.lanes) {
                if overtaken && loser.source == Source::Swarm {
                    self.means.experience.swarm_lost();
                }
                if loser.source == Source::Upstream {
                    self.means.counters.wasted(loser.at());
                }
            }
            self.lanes.push(winner);
        }
        self.begun = true;
        let lane = &self.lanes[i.min(self.lanes.len() - 1)];
        if self.used.last() != Some(&lane.candidate) {
            self.used.push(lane.candidate);
        }
        lane.source
    }

    fn lost(&self, lane: &Lane, error: &SourceError) {
        let (store_path, source) = (&self.plan.store_path, lane.source.as_str());
        tracing::debug!(%store_path, source, at = lane.at(), %error, "a source failed");
        if lane.source == Source::Swarm {
            self.means.experience.swarm_lost();
        }
        if error.is_lie() {
            self.means
                .accuse(&self.plan.candidates[lane.candidate], self.plan);
        }
    }
}
