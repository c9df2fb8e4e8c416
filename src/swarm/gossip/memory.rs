//! What is remembered of machines whose connection has ended: who broke the rules is let in no more for a while, and
//! who comes again finds its budget as it left it.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::swarm::networks::host_of;

use super::budget::Budget;

/// Whoever broke the rules stays outside for so long.
const BANNED: Duration = Duration::from_secs(600);
/// All that a budget has spent is there again after this.
const REFILLED: Duration = Duration::from_secs(150);
/// Machines and budgets that are remembered; the oldest are forgotten for new ones.
const MAX_BANNED: usize = 1024;
const MAX_BUDGETS: usize = 512;

#[derive(Default)]
pub struct Memory(Mutex<Remembered>);

#[derive(Default)]
struct Remembered {
    banned: HashMap<IpAddr, Instant>,
    /// In the order in which they were left.
    budgets: VecDeque<(IpAddr, Instant, Arc<Budget>)>,
}

impl Memory {
    /// This machine is left alone when it comes in. Many programs are behind the loopback address, and none is far away.
    pub fn ban(&self, address: IpAddr) {
        if address.to_canonical().is_loopback() {
            return;
        }
        let banned = &mut self.lock().banned;
        banned.retain(|_, since| since.elapsed() < BANNED);
        if banned.len() >= MAX_BANNED
            && let Some(oldest) = banned.iter().min_by_key(|(_, since)| **since)
        {
            let oldest = *oldest.0;
            banned.remove(&oldest);
        }
        banned.insert(host_of(address), Instant::now());
    }

    pub fn is_banned(&self, address: IpAddr) -> bool {
        let remembered = self.lock();
        let since = remembered.banned.get(&host_of(address));
        since.is_some_and(|since| since.elapsed() < BANNED)
    }

    /// The budget of a connection that begins: one that this machine has left, if there is any.
    pub fn budget(&self, address: IpAddr) -> Arc<Budget> {
        let budgets = &mut self.lock().budgets;
        while budgets
            .front()
            .is_some_and(|(_, left, _)| left.elapsed() > REFILLED)
        {
            budgets.pop_front();
        }
        let host = host_of(address);
        let its = budgets.iter().position(|(other, _, _)| *other == host);
        let its = its.and_then(|at| budgets.remove(at));
        its.map(|(_, _, budget)| budget).unwrap_or_default()
    }

    /// A connection has ended.
    pub fn left(&self, address: IpAddr, budget: Arc<Budget>) {
        if address.to_canonical().is_loopback() {
            return;
        }
        let budgets = &mut self.lock().budgets;
        if budgets.len() >= MAX_BUDGETS {
            budgets.pop_front();
        }
        budgets.push_back((host_of(address), Instant::now(), budget));
    }

    fn lock(&self) -> MutexGuard<'_, Remembered> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_again_has_spent_what_it_spent() {
        let memory = Memory::default();
        let [flooder, other, here] = ["192.0.2.1", "192.0.2.2", "127.0.0.1"].map(|ip| {
            let ip: IpAddr = ip.parse().unwrap();
            ip
        });
        let [first, second] = [(); 2].map(|()| memory.budget(flooder));
        assert!(first.takes_rows(8192));
        memory.left(flooder, first);
        assert!(memory.budget(other).takes_rows(8192));
        let again = memory.budget(flooder);
        assert!(!again.takes_rows(8000));
        // Two connections at once are two budgets.
        assert!(second.takes_rows(8192) && memory.budget(flooder).takes_rows(8192));
        memory.left(here, again);
        assert!(memory.budget(here).takes_rows(8192));
        for _ in 0..2 * MAX_BUDGETS {
            memory.left(other, Arc::default());
        }
        assert_eq!(memory.lock().budgets.len(), MAX_BUDGETS);
    }

    #[test]
    fn who_broke_the_rules_stays_outside_behind_any_port() {
        let memory = Memory::default();
        let address = |last: u16| IpAddr::from([0x2001, 0xdb8, 0, last, 0, 0, 0, 1]);
        (0..2000).for_each(|last| memory.ban(address(last)));
        assert!(memory.is_banned(address(1999)) && !memory.is_banned(address(0)));
        assert_eq!(memory.lock().banned.len(), MAX_BANNED);
        let same = IpAddr::from([0x2001, 0xdb8, 0, 1999, 0, 0, 0, 2]);
        assert!(memory.is_banned(same));
        memory.ban("127.0.0.1".parse().unwrap());
        assert!(!memory.is_banned("127.0.0.1".parse().unwrap()));
    }
}
