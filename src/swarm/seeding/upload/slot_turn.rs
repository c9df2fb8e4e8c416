//! A connection's turn at the upload slots: how long it has one.

use std::time::Duration;

use tokio::time::Instant;

use crate::swarm::seeding::slots::{Slots, Turn};

/// A slot is given up after so many bytes, or after so long, if others wait for one.
const TURN_BYTES: usize = 1024 * 1024;
pub const TURN_TIME: Duration = Duration::from_secs(1);

/// None at first.
#[derive(Default)]
pub struct SlotTurn(Option<Running>);

struct Running {
    _turn: Turn,
    bytes: usize,
    began: Instant,
}

impl SlotTurn {
    pub fn begin(turn: Option<Turn>) -> Self {
        Self(turn.map(|turn| Running {
            _turn: turn,
            bytes: 0,
            began: Instant::now(),
        }))
    }

    pub fn sent(&mut self, bytes: usize) {
        if let Some(running) = &mut self.0 {
            running.bytes += bytes;
        }
    }

    pub fn end(&mut self) {
        self.0 = None;
    }

    /// Whether it may send more in this turn; one that was long ends here if others wait, after the time for what the peer
    /// had asked before it was choked.
    pub fn goes_on(&mut self, slots: &Slots) -> bool {
        if self.has_lasted(2) && slots.are_waited_for() {
            self.end();
        }
        self.0.is_some()
    }

    /// Whether others should have their turn.
    pub fn is_long(&self) -> bool {
        self.has_lasted(1)
    }

    fn has_lasted(&self, turns: u32) -> bool {
        self.0.as_ref().is_some_and(|running| {
            running.bytes >= TURN_BYTES * turns as usize
                || running.began.elapsed() >= TURN_TIME * turns
        })
    }
}
