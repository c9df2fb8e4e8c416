//! Upload slots: few connections send at a time, so that those finish soon and have something to trade, and all take
//! turns. NARs are served in turn, whatever number of peers asks for each; one address gets half of the slots at most
//! while others wait.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::torrent::InfoHash;

#[derive(Clone)]
pub struct Slots(Arc<Mutex<State>>);

struct State {
    limit: usize,
    taken: HashMap<IpAddr, usize>,
    /// Who waits, by NAR; the NAR in front is served next.
    queues: VecDeque<(InfoHash, VecDeque<Waiting>)>,
}

struct Waiting {
    address: IpAddr,
    turn: oneshot::Sender<Turn>,
}

/// A slot, until it is dropped.
pub struct Turn {
    slots: Slots,
    address: IpAddr,
}

impl Slots {
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            limit: limit.max(1),
            taken: HashMap::new(),
            queues: VecDeque::new(),
        })))
    }

    pub fn set(&self, limit: usize) {
        self.lock().limit = limit.max(1);
        self.hand_out();
    }

    /// Waits for a slot.
    pub async fn take(&self, info_hash: InfoHash, address: IpAddr) -> Option<Turn> {
        let turn = {
            let mut state = self.lock();
            if state.queues.is_empty() && state.is_free() {
                return Some(self.turn(&mut state, address));
            }
            let (sender, receiver) = oneshot::channel();
            state.wait(
                info_hash,
                Waiting {
                    address,
                    turn: sender,
                },
            );
            receiver
        };
        self.hand_out();
        turn.await.ok()
    }

    /// Whether anything is being sent.
    pub fn are_taken(&self) -> bool {
        !self.lock().taken.is_empty()
    }

    /// Whether somebody else could use the slot.
    pub fn are_waited_for(&self) -> bool {
        !self.lock().queues.is_empty()
    }

    fn turn(&self, state: &mut State, address: IpAddr) -> Turn {
        *state.taken.entry(address).or_default() += 1;
        Turn {
            slots: self.clone(),
            address,
        }
    }

    /// Gives what is free to those who wait.
    fn hand_out(&self) {
        loop {
            let (waiting, turn) = {
                let mut state = self.lock();
                if !state.is_free() {
                    return;
                }
                let Some(next) = state.next() else {
                    return;
                };
                let turn = self.turn(&mut state, next.address);
                (next.turn, turn)
            };
            // Outside of the lock: a turn that nobody takes is dropped, and locks.
            drop(waiting.send(turn));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_free(&self) -> bool {
        self.taken.values().sum::<usize>() < self.limit
    }

    fn wait(&mut self, info_hash: InfoHash, waiting: Waiting) {
        let queue = self.queues.iter_mut().find(|(hash, _)| *hash == info_hash);
        match queue {
            Some((_, queue)) => queue.push_back(waiting),
            None => self
                .queues
                .push_back((info_hash, VecDeque::from([waiting]))),
        }
    }

    /// The next who waits and is not gone: of the NAR in front, then that NAR goes to the back. Addresses with many
    /// slots are passed over while there is somebody else.
    fn next(&mut self) -> Option<Waiting> {
        for (_, queue) in &mut self.queues {
            queue.retain(|waiting| !waiting.turn.is_closed());
        }
        self.queues.retain(|(_, queue)| !queue.is_empty());
        let share = self.limit.div_ceil(2);
        let modest =
            |waiting: &Waiting| self.taken.get(&waiting.address).is_none_or(|n| *n < share);
        let modest = self
            .queues
            .iter()
            .enumerate()
            .find_map(|(at, (_, queue))| Some((at, queue.iter().position(modest)?)));
        let (at, place) = modest.or_else(|| (!self.queues.is_empty()).then_some((0, 0)))?;
        let (info_hash, mut queue) = self.queues.remove(at)?;
        let next = queue.remove(place);
        if !queue.is_empty() {
            self.queues.push_back((info_hash, queue));
        }
        next
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = self.slots.lock();
            if let Some(taken) = state.taken.get_mut(&self.address) {
                *taken -= 1;
                if *taken == 0 {
                    state.taken.remove(&self.address);
                }
            }
        }
        self.slots.hand_out();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures_util::poll;

    use super::*;

    fn nar(i: u8) -> InfoHash {
        InfoHash::from_bytes([i; 20])
    }

    fn host(i: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, i])
    }

    type Taking<'a> = Pin<Box<dyn Future<Output = Option<Turn>> + 'a>>;

    #[tokio::test]
    async fn nars_take_turns_and_whoever_is_gone_is_passed_over() {
        let slots = Slots::new(1);
        let first = slots.take(nar(1), host(1)).await;
        assert!(!slots.are_waited_for());
        let mut crowd: Vec<Taking<'_>> = (2..5)
            .map(|i| Box::pin(slots.take(nar(1), host(i))) as Taking<'_>)
            .collect();
        for taking in &mut crowd {
            assert!(poll!(taking.as_mut()).is_pending());
        }
        let mut other = std::pin::pin!(slots.take(nar(2), host(9)));
        assert!(poll!(other.as_mut()).is_pending());
        drop(crowd.remove(0));
        drop(first);
        let second = crowd.remove(0).await;
        assert!(poll!(other.as_mut()).is_pending());
        drop(second);
        let third = other.await;
        assert!(third.is_some(), "another NAR before the rest of the crowd");
        drop(third);
        assert!(crowd.remove(0).await.is_some());
        assert!(slots.lock().taken.is_empty());
    }

    #[tokio::test]
    async fn one_address_leaves_half_of_the_slots_to_others() {
        let slots = Slots::new(4);
        let mut held = Vec::new();
        for _ in 0..4 {
            held.push(slots.take(nar(1), host(1)).await);
        }
        let mut greedy = std::pin::pin!(slots.take(nar(1), host(1)));
        assert!(poll!(greedy.as_mut()).is_pending());
        let mut modest = std::pin::pin!(slots.take(nar(1), host(2)));
        assert!(poll!(modest.as_mut()).is_pending());
        held.pop();
        assert!(poll!(greedy.as_mut()).is_pending());
        assert!(modest.await.is_some());
        assert!(greedy.await.is_some(), "alone it may have them all");
        slots.set(1);
        assert!(
            !slots
                .lock()
                .queues
                .iter()
                .any(|(_, queue)| !queue.is_empty())
        );
    }
}
