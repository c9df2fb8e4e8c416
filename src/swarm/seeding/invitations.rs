//! Who may ask: a choked peer (BEP 3) is free to get a piece elsewhere, one that has asked waits for it here.
//!
//! While few want something, everybody may ask at once. When many do, those come first whose NAR has left here least
//! lately, to whoever has got least: they give it on, and the others of its crowd are mostly served by then. So a seeder
//! hands out many NARs once each, each to another peer, and all their uplinks are of use.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use crate::torrent::InfoHash;

/// For each upload slot so many may ask: while their requests are on the way, others are served.
const PER_SLOT: usize = 2;
/// A copy of the NAR that was given lately lets others go first by so long: some round trips, and the time for a small
/// NAR.
const COPY_COUNTS: f64 = 5.0;
/// So does each MiB that the same address has got lately.
const TURN_COUNTS: f64 = 1.0;
const TURN: f64 = 1024.0 * 1024.0;
/// Nobody waits longer than that for those who came later.
const MOST: f64 = 15.0;
/// What was given counts half after so long.
const HALF_LIFE: Duration = Duration::from_secs(15);
/// Of so many NARs and addresses it is remembered.
const MAX_REMEMBERED: usize = 4096;

#[derive(Clone)]
pub struct Invitations(Arc<Mutex<State>>);

/// Somebody wants something.
#[derive(Debug, Clone, Copy)]
pub struct Want {
    pub info_hash: InfoHash,
    pub length: u64,
    pub address: IpAddr,
}

struct State {
    limit: usize,
    invited: HashMap<u64, Want>,
    next: u64,
    waiting: Vec<Waiting>,
    /// Copies of each NAR, and bytes for each address.
    copies: Memory<InfoHash>,
    bytes: Memory<IpAddr>,
}

struct Waiting {
    want: Want,
    since: Instant,
    invitation: oneshot::Sender<Invitation>,
}

/// Until it is dropped.
pub struct Invitation {
    invitations: Invitations,
    number: u64,
}

/// Amounts that fade.
struct Memory<K>(HashMap<K, (f64, Instant)>);

impl Want {
    /// Of all that it wants, what it gets in one turn, as bytes.
    fn turn(&self) -> f64 {
        (self.length.max(1) as f64).min(TURN)
    }

    fn copies(&self, bytes: f64) -> f64 {
        bytes / self.length.max(1) as f64
    }
}

impl<K: Hash + Eq> Memory<K> {
    fn get(&self, key: &K) -> f64 {
        self.0.get(key).map_or(0.0, faded)
    }

    fn add(&mut self, key: K, amount: f64) {
        if self.0.len() >= MAX_REMEMBERED && !self.0.contains_key(&key) {
            self.0.retain(|_, kept| faded(kept) > amount);
            if self.0.len() >= MAX_REMEMBERED {
                return;
            }
        }
        let kept = self.0.entry(key).or_insert((0.0, Instant::now()));
        *kept = (faded(kept) + amount, Instant::now());
    }
}

fn faded((amount, at): &(f64, Instant)) -> f64 {
    amount * 0.5_f64.powf(at.elapsed().as_secs_f64() / HALF_LIFE.as_secs_f64())
}

impl Invitations {
    pub fn new(slots: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            limit: slots.max(1) * PER_SLOT,
            invited: HashMap::new(),
            next: 0,
            waiting: vec![],
            copies: Memory(HashMap::new()),
            bytes: Memory(HashMap::new()),
        })))
    }

    pub fn set(&self, slots: usize) {
        self.lock().limit = slots.max(1) * PER_SLOT;
        self.invite();
    }

    /// If nobody has to wait.
    pub fn at_once(&self, want: Want) -> Option<Invitation> {
        let mut state = self.lock();
        let free = state.waiting.is_empty() && state.invited.len() < state.limit;
        free.then(|| self.invitation(&mut state, want))
    }

    /// The invitation comes when it is this peer's turn.
    pub fn ask(&self, want: Want) -> oneshot::Receiver<Invitation> {
        let (invitation, receiver) = oneshot::channel();
        self.lock().waiting.push(Waiting {
            want,
            since: Instant::now(),
            invitation,
        });
        self.invite();
        receiver
    }

    /// Whether somebody else could use one.
    pub fn are_waited_for(&self) -> bool {
        let mut state = self.lock();
        state.waiting.retain(|peer| !peer.invitation.is_closed());
        !state.waiting.is_empty()
    }

    /// So much of it was given.
    pub fn gave(&self, want: Want, bytes: usize) {
        let mut state = self.lock();
        let bytes = bytes as f64;
        state.copies.add(want.info_hash, want.copies(bytes));
        state.bytes.add(want.address, bytes);
    }

    fn invitation(&self, state: &mut State, want: Want) -> Invitation {
        let number = state.next;
        state.next += 1;
        state.invited.insert(number, want);
        Invitation {
            invitations: self.clone(),
            number,
        }
    }

    /// Gives what is free to those who wait.
    fn invite(&self) {
        loop {
            let (sender, invitation) = {
                let mut state = self.lock();
                let Some(next) = state.next() else {
                    return;
                };
                let invitation = self.invitation(&mut state, next.want);
                (next.invitation, invitation)
            };
            // Outside of the lock: one that nobody takes is dropped, and locks.
            drop(sender.send(invitation));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Addresses with half of all invitations are passed over while there is somebody else.
    fn next(&mut self) -> Option<Waiting> {
        self.waiting.retain(|peer| !peer.invitation.is_closed());
        if self.invited.len() >= self.limit {
            return None;
        }
        let share = self.limit.div_ceil(2);
        let greedy = |peer: &Waiting| {
            let same = |invited: &&Want| invited.address == peer.want.address;
            self.invited.values().filter(same).count() >= share
        };
        let rank = |peer: &Waiting| (greedy(peer), peer.since + self.yields(&peer.want));
        let waiting = self.waiting.iter().enumerate();
        let (at, _) = waiting.min_by_key(|(_, peer)| rank(peer))?;
        Some(self.waiting.remove(at))
    }

    /// How much longer than others it waits: for what was given lately, and for what is about to be.
    fn yields(&self, want: &Want) -> Duration {
        let mut copies = self.copies.get(&want.info_hash);
        let mut bytes = self.bytes.get(&want.address);
        for other in self.invited.values() {
            if other.info_hash == want.info_hash {
                copies += other.copies(other.turn());
            }
            if other.address == want.address {
                bytes += other.turn();
            }
        }
        Duration::from_secs_f64((copies * COPY_COUNTS + bytes / TURN * TURN_COUNTS).min(MOST))
    }
}

impl Drop for Invitation {
    fn drop(&mut self) {
        self.invitations.lock().invited.remove(&self.number);
        self.invitations.invite();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(nar: u8, host: u8) -> Want {
        Want {
            info_hash: InfoHash::from_bytes([nar; 20]),
            length: 100_000,
            address: IpAddr::from([10, 0, 0, host]),
        }
    }

    #[test]
    fn what_has_not_left_goes_first_and_whoever_got_least() {
        let invitations = Invitations::new(1);
        let first = invitations.at_once(want(1, 1));
        let other = invitations.at_once(want(9, 9));
        assert!(first.is_some() && invitations.at_once(want(2, 2)).is_none());
        invitations.gave(want(1, 1), 100_000);
        let mut again = invitations.ask(want(1, 2));
        let mut greedy = invitations.ask(want(2, 1));
        let mut modest = invitations.ask(want(2, 3));
        let gone = invitations.ask(want(3, 3));
        assert!(invitations.are_waited_for());
        drop((gone, first));
        let modest = modest.try_recv().unwrap();
        assert!(greedy.try_recv().is_err() && again.try_recv().is_err());
        drop(modest);
        let greedy = greedy.try_recv().unwrap();
        assert!(again.try_recv().is_err());
        drop(greedy);
        assert!(again.try_recv().is_ok());
        assert!(!invitations.are_waited_for());
        drop((again, other));
        assert!(invitations.lock().invited.is_empty());
        assert!(invitations.at_once(want(1, 2)).is_some());
    }

    #[test]
    fn one_address_leaves_half_of_them_to_others() {
        let invitations = Invitations::new(2);
        let mut held: Vec<_> = (0..4)
            .map(|_| invitations.at_once(want(1, 1)).unwrap())
            .collect();
        // Longer than anything that was given counts.
        let mut greedy = invitations.ask(want(2, 1));
        let since = Instant::now().checked_sub(Duration::from_secs(600));
        invitations.lock().waiting[0].since = since.unwrap();
        let mut modest = invitations.ask(want(3, 2));
        held.pop();
        assert!(greedy.try_recv().is_err());
        let modest = modest.try_recv().unwrap();
        held.pop();
        assert!(greedy.try_recv().is_ok(), "alone it may have them all");
        drop(modest);
    }

    #[test]
    fn whoever_waits_is_not_passed_over_for_ever() {
        let invitations = Invitations::new(1);
        let held = [(); PER_SLOT].map(|()| invitations.at_once(want(1, 1)));
        invitations.gave(want(1, 1), 10_000_000);
        let mut old = invitations.ask(want(1, 1));
        // As if it had come ten minutes ago.
        let since = Instant::now()
            .checked_sub(Duration::from_secs(600))
            .unwrap();
        invitations.lock().waiting[0].since = since;
        let mut new = invitations.ask(want(2, 2));
        drop(held);
        assert!(old.try_recv().is_ok() && new.try_recv().is_ok());
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut memory = Memory(HashMap::new());
        (0..2 * MAX_REMEMBERED).for_each(|i| memory.add(i, 1.0));
        assert!(memory.0.len() <= MAX_REMEMBERED);
        assert!(memory.get(&(2 * MAX_REMEMBERED - 1)) > 0.9);
    }
}
