//! Which source gives the next bytes: one at a time while all is well, a second one when the first is late, slow or
//! silent; whoever has the bytes first goes on, and the loser is cancelled.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::catalog::Entry;
use crate::runtime::Source;
use crate::swarm::Traffic;

use super::experience::{BLOCK_GAP, DISK_HEAD_START, Delivery, GAP, LineUse, UPSTREAM_HEAD_START};
use super::lane::Lane;
use super::plan::{Candidate, Means, Plan};
use super::source::{Position, SourceError};

/// Two that both fall silent again and again are not followed for ever.
const MAX_RETURNS: u32 = 4;

pub struct Race<'a> {
    plan: &'a Plan,
    means: &'a Means,
    /// Candidates that were not started yet, the best first.
    fresh: VecDeque<usize>,
    /// Those that were overtaken: should the winner fall silent, they may go on.
    beaten: VecDeque<usize>,
    /// How often one of them did.
    returns: u32,
    /// At most two, the older first.
    lanes: Vec<Lane>,
    /// Whether Nix's first byte has been found.
    begun: bool,
    /// Candidates whose bytes were used.
    used: Vec<usize>,
    /// Where the bytes are wanted.
    position: Position,
    pace: Pace,
    flow: Flow,
    last_error: SourceError,
}

/// What the source that is used has brought, and how long it was waited for: Nix may be slow to take what is there.
#[derive(Default)]
struct Pace {
    came: u64,
    waited: Duration,
}

/// Blocks of the swarm's download: a frame that is on its way is no silence.
struct Flow {
    received: u64,
    at: Instant,
}

enum Event {
    Bytes(usize, Bytes),
    Ended(usize, SourceError),
    /// The lane that runs alone has had its time.
    Reinforce,
    /// It may have; what it did meanwhile decides.
    Look,
}

/// Who could be brought in beside the only lane.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Others {
    Fresh,
    /// It was overtaken: to be slow is no reason to turn to it, silence is.
    Beaten,
}

/// How long the only lane is left alone.
enum Patience {
    Endless,
    /// Then the next one is brought in.
    Until(Duration),
    Look(Duration),
}

impl<'a> Race<'a> {
    pub fn new(plan: &'a Plan, means: &'a Means) -> Self {
        Self {
            plan,
            means,
            fresh: (0..plan.candidates.len()).collect(),
            beaten: VecDeque::new(),
            returns: 0,
            lanes: Vec::new(),
            begun: false,
            used: Vec::new(),
            position: Position::default(),
            pace: Pace::default(),
            flow: Flow {
                received: 0,
                at: Instant::now(),
            },
            last_error: SourceError::Absent,
        }
    }

    /// The next bytes at `position`, or the last error when no candidate is left.
    pub async fn next(&mut self, position: u64) -> Result<(Bytes, Source), SourceError> {
        self.position.set(position);
        // Nix may have been busy with what it had.
        self.flow.at = Instant::now();
        loop {
            if self.lanes.is_empty() && !self.start(|_| true) && !self.bring_back() {
                return Err(std::mem::replace(&mut self.last_error, SourceError::Absent));
            }
            let start = Instant::now();
            let event = self.wait(position).await;
            self.pace.waited += start.elapsed();
            match event {
                Event::Bytes(i, bytes) => {
                    let source = self.won(i);
                    self.pace.came += bytes.len() as u64;
                    return Ok((bytes, source));
                }
                Event::Ended(i, error) => {
                    let lane = self.lanes.remove(i);
                    self.lost(&lane, &error);
                    let liar = &self.plan.candidates[lane.candidate];
                    drop(lane);
                    if error.is_lie() {
                        self.means.accuse(liar, self.plan).await;
                    }
                    self.last_error = error;
                }
                Event::Reinforce => {
                    let _ = self.start(Candidate::is_promising) || self.bring_back();
                }
                Event::Look => {}
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
        self.fresh = (0..self.plan.candidates.len()).collect();
        self.beaten.clear();
        self.begun = false;
        self.position = Position::default();
        self.pace = Pace::default();
    }

    /// The NAR is complete: remembers who delivered.
    pub fn finish(self) {
        let swarm = |candidate: &Candidate| candidate.source() == Source::Swarm;
        if !self.used.is_empty() && self.used().all(swarm) {
            let delivery = Delivery {
                nar_size: self.plan.nar_size,
                took: self.pace.waited,
                // Its own download is not among them any more.
                sharing: self.means.fetches.under_way() + 1,
            };
            let experience = &self.means.experience;
            let began = self.lanes.first().map_or_else(Instant::now, Lane::began);
            experience.swarm_delivered(began, delivery, self.means.fetches.line_rate());
        }
    }

    /// Starts the next candidate that is `fit` and was not caught lying about this NAR.
    fn start(&mut self, fit: impl Fn(&Candidate) -> bool) -> bool {
        let mut fresh = self.fresh.iter();
        let Some(at) = fresh.position(|i| self.is_honest(*i) && fit(&self.plan.candidates[*i]))
        else {
            return false;
        };
        let candidate = self.fresh.remove(at);
        self.open(candidate)
    }

    /// Starts again with one that was overtaken.
    fn bring_back(&mut self) -> bool {
        let Some(at) = self.next_beaten() else {
            return false;
        };
        self.returns += 1;
        let candidate = self.beaten.remove(at);
        self.open(candidate)
    }

    /// Who would be brought back.
    fn next_beaten(&self) -> Option<usize> {
        let honest = self.beaten.iter().position(|i| self.is_honest(*i));
        honest.filter(|_| self.returns < MAX_RETURNS)
    }

    fn is_honest(&self, i: usize) -> bool {
        let culprit = self.plan.candidates[i].culprit(self.plan);
        !self.means.quarantine.has(&culprit)
    }

    fn open(&mut self, candidate: Option<usize>) -> bool {
        let Some(i) = candidate else {
            return false;
        };
        let candidate = &self.plan.candidates[i];
        let stream = candidate.open(self.plan, self.means, self.position.clone());
        self.lanes.push(Lane::new(i, candidate.source(), stream));
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
        let clock = async {
            match patience {
                Patience::Endless => std::future::pending().await,
                Patience::Until(time) => {
                    tokio::time::sleep(time).await;
                    Event::Reinforce
                }
                Patience::Look(time) => {
                    tokio::time::sleep(time).await;
                    Event::Look
                }
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
            event = clock => event,
        }
    }

    fn patience(&mut self, position: u64) -> Patience {
        let [lane] = &self.lanes[..] else {
            return Patience::Endless;
        };
        let promising = |i: &usize| self.is_honest(*i) && self.plan.candidates[*i].is_promising();
        let others = match self.fresh.iter().any(promising) {
            true => Others::Fresh,
            false if self.begun && self.next_beaten().is_some() => Others::Beaten,
            false => return Patience::Endless,
        };
        let (age, candidate) = (lane.age(), &self.plan.candidates[lane.candidate]);
        let experience = &self.means.experience;
        let (size, Pace { came, waited }) = (self.plan.nar_size, &self.pace);
        let head_start = match candidate {
            Candidate::Store(_) => DISK_HEAD_START,
            Candidate::Upstream(_) => UPSTREAM_HEAD_START,
            Candidate::Swarm(row) => {
                let head_start = experience.swarm_head_start(self.means.prospect(&row.info_hash));
                if !self.begun && head_start.is_zero() {
                    return Patience::Until(head_start);
                }
                if !self.begun && age < head_start {
                    return Patience::Look(head_start - age);
                }
                return self.patience_with_download(row, position, age, others);
            }
        };
        if !self.begun {
            return Patience::Until(head_start.saturating_sub(age));
        }
        let slow = others == Others::Fresh
            && experience.is_too_slow(*came, *waited, size - position, size, self.line());
        Patience::Until(if slow { Duration::ZERO } else { GAP })
    }

    fn line(&self) -> LineUse {
        let fetches = &self.means.fetches;
        LineUse {
            others: fetches.under_way().saturating_sub(1),
            full: self.means.experience.fills_the_line(fetches.line_rate()),
        }
    }

    /// The head start is over: the swarm's download is left alone as long as blocks come in, and not too slowly.
    fn patience_with_download(
        &mut self,
        row: &Entry,
        position: u64,
        age: Duration,
        waiting: Others,
    ) -> Patience {
        let downloads = self.means.downloads.as_ref();
        let traffic = downloads.and_then(|downloads| downloads.traffic(&row.info_hash));
        let Traffic {
            received,
            others,
            others_flowing,
        } = traffic.unwrap_or_default();
        if received > self.flow.received {
            self.flow.received = received;
            self.flow.at = Instant::now();
        }
        let size = self.plan.nar_size;
        let experience = &self.means.experience;
        let line = match self.line() {
            line if line.full => line,
            line => LineUse { others, ..line },
        };
        // Before the first frame is whole there are only the payload's bytes to go by.
        let (gap, came, waited, rest) = if self.begun {
            let Pace { came, waited } = self.pace;
            (GAP, came, waited, size - position)
        } else {
            let rest = row.payload_length.saturating_sub(received);
            // On a line that others fill its blocks stand in a queue, where an upstream's bytes would stand too.
            let gap = match line.full {
                true => GAP,
                false => (BLOCK_GAP * (others_flowing as u32 + 1)).min(GAP),
            };
            (gap, received, age, rest)
        };
        let silent = self.flow.at.elapsed();
        let slow =
            waiting == Others::Fresh && experience.is_too_slow(came, waited, rest, size, line);
        let alone = received == 0 && others_flowing == 0 && !self.begun;
        if slow || silent >= gap || alone {
            Patience::Until(Duration::ZERO)
        } else {
            Patience::Look((gap - silent).min(BLOCK_GAP))
        }
    }

    /// Lane `i` has the next bytes: a lane that was brought in later has overtaken the older one, which ends; a first
    /// byte ends the race for it.
    fn won(&mut self, i: usize) -> Source {
        let overtaken = i > 0;
        if self.lanes.len() > 1 && (overtaken || !self.begun) {
            let winner = self.lanes.remove(i);
            for loser in std::mem::take(&mut self.lanes) {
                self.beaten.push_back(loser.candidate);
                if overtaken && loser.source == Source::Swarm {
                    self.swarm_lost(&loser);
                }
            }
            self.lanes.push(winner);
        }
        self.begun = true;
        let lane = &self.lanes[i.min(self.lanes.len() - 1)];
        if self.used.last() != Some(&lane.candidate) {
            // The wait for the first byte is the first one's.
            if !self.used.is_empty() {
                self.pace = Pace::default();
            }
            self.used.push(lane.candidate);
        }
        lane.source
    }

    fn lost(&self, lane: &Lane, error: &SourceError) {
        let (store_path, source) = (&self.plan.store_path, lane.source.as_str());
        tracing::debug!(%store_path, source, %error, "a source failed");
        if lane.source == Source::Swarm {
            self.swarm_lost(lane);
        }
    }

    fn swarm_lost(&self, lane: &Lane) {
        if self.used.last() == Some(&lane.candidate) {
            self.means.experience.swarm_failed(lane.began());
        } else {
            self.means.experience.swarm_was_late(lane.began());
        }
    }
}
