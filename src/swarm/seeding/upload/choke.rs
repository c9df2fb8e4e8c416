//! Whether the peer may ask for pieces (BEP 3): while nobody has to wait, or when it is invited, until it was served.

use std::future::pending;

use tokio::sync::oneshot;
use tokio::time::{Duration, Instant, sleep_until};

use crate::swarm::protocol::{Program, messages};
use crate::swarm::seeding::invitations::{Invitation, Want};

use super::Upload;
use super::turn_end::TurnEnd;

/// After so long an invitation that was not taken up goes to somebody else as well: the peer is getting it elsewhere, as
/// a rule. It may still ask.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(300);

pub enum Choke {
    /// There is nothing to ask for, or the peer has not said that it wants something.
    Choked,
    /// It wants something, and waits for its turn.
    Waiting(oneshot::Receiver<Invitation>),
    /// It may ask. Its invitation is held until it was served.
    Open(Option<(Invitation, Instant)>),
}

impl Choke {
    pub fn invited(invitation: Invitation) -> Self {
        Self::Open(Some((invitation, Instant::now() + ACCEPTED_WITHIN)))
    }

    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open(_))
    }

    pub fn waits(&self) -> bool {
        matches!(self, Self::Waiting(_))
    }

    pub fn is_invited(&self) -> bool {
        matches!(self, Self::Open(Some(_)))
    }

    /// Resolves when it is its turn to ask; never where it does not wait for that. Meanwhile an invitation may lapse.
    pub async fn opens(&mut self) {
        match self {
            Self::Waiting(receiver) => {
                if let Ok(invitation) = receiver.await {
                    *self = Self::invited(invitation);
                    return;
                }
            }
            Self::Open(Some((_, by))) => {
                sleep_until(*by).await;
                self.release();
            }
            _ => {}
        }
        pending().await
    }

    /// It was served, or asked for nothing: others have their turn, and it may still ask.
    pub fn release(&mut self) {
        if let Self::Open(invitation) = self {
            *invitation = None;
        }
    }
}

impl Upload<'_> {
    pub(super) fn want(&self) -> Want {
        Want {
            info_hash: self.offer.info_hash,
            length: self.offer.length,
            address: self.machine,
        }
    }

    pub(super) fn is_interested(&mut self, interested: bool) {
        self.interested = interested;
        match self.choke {
            Choke::Waiting(_) if !interested => {
                self.choke = Choke::Choked;
                self.rests(false);
            }
            _ => self.invite(),
        }
    }

    /// Lets the peer ask at once where nobody has to wait.
    pub(super) fn open(&mut self) {
        // A companion asks for nothing.
        if self.program == Program::Companion || self.have.ones() == 0 {
            return;
        }
        if let Some(invitation) = self.seeder.invitations.at_once(self.want()) {
            self.choke = Choke::invited(invitation);
            self.unchoke();
        }
    }

    /// It may ask from now on.
    pub(super) fn unchoke(&mut self) {
        self.window = self.reqq;
        messages::put_unchoke(&mut self.out);
    }

    /// Whether a request is to be answered: of a choked peer only what was on the way already (librqbit does not ask
    /// again), or choking would be a favour that it does us.
    pub(super) fn may_ask(&mut self) -> bool {
        if self.choke.is_open() {
            return true;
        }
        let was_on_the_way = self.late > 0;
        self.late = self.late.saturating_sub(1);
        was_on_the_way
    }

    /// The peer wants something, and there may be something.
    pub(super) fn invite(&mut self) {
        if !self.interested || !matches!(self.choke, Choke::Choked) {
            return;
        }
        self.open();
        if !self.choke.is_open() && self.have.ones() > 0 {
            self.choke = Choke::Waiting(self.seeder.invitations.ask(self.want()));
            // Those who wait longest are next: they are not the ones to go where places are scarce.
            self.works();
        }
    }

    /// Whether it has had its turn, and others wait for theirs.
    pub(super) fn has_had_its_turn(&mut self) -> bool {
        let time_is_up =
            self.turn_end.is_overdue() || self.turn.is_long() || !self.choke.is_invited();
        let due = self.choke.is_open() && time_is_up && self.seeder.invitations.are_waited_for();
        let piece_length = self.offer.piece_length;
        self.turn_end.is_here(due, piece_length, Instant::now())
    }

    /// It has had its turn. What it has asked already is still answered, because librqbit does not ask again.
    pub(super) fn choke(&mut self) {
        if self.choke.is_open() {
            self.turn_end = TurnEnd::default();
            // As much again in the place of what it takes back.
            self.late = 2 * self.window;
            // librqbit takes a breath after each message, in which it asks for what may be asked for.
            messages::put_keep_alive(&mut self.out);
            messages::put_choke(&mut self.out);
            self.choke = Choke::Choked;
            // One that is still being served could not take an invitation up.
            if self.requests.is_empty() {
                self.invite();
            }
        }
    }
}
