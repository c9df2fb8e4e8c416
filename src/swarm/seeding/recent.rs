//! A bounded cache of what takes a while to make. What was used last stays longest; whoever asks for what is being made
//! waits for that. What it lets go of is dropped at once, which for open files matters.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

pub struct Recent<K, V> {
    state: Mutex<State<K, V>>,
    capacity: u64,
    /// What was not used for so long is idle.
    rest: Duration,
    /// Of a value, or of one that is being made.
    weigh: fn(Option<&V>) -> u64,
}

struct State<K, V> {
    entries: HashMap<K, Entry<V>>,
    /// The entries by their last use, oldest first.
    order: BTreeMap<u64, K>,
    uses: u64,
    weight: u64,
}

struct Entry<V> {
    value: Slot<V>,
    weight: u64,
    last_use: u64,
    at: Instant,
}

/// Empty while its value is being made.
pub type Slot<V> = Arc<OnceCell<V>>;

impl<K: Copy + Eq + Hash, V: Clone> Recent<K, V> {
    pub fn new(capacity: u64, rest: Duration, weigh: fn(Option<&V>) -> u64) -> Self {
        Self {
            state: Mutex::new(State {
                entries: HashMap::new(),
                order: BTreeMap::new(),
                uses: 0,
                weight: 0,
            }),
            capacity,
            rest,
            weigh,
        }
    }

    /// The value, made by `make` if there is none. An error is not kept: whoever waited tries it anew.
    pub async fn get_or_make<E>(
        &self,
        key: K,
        make: impl Future<Output = Result<V, E>>,
    ) -> Result<V, E> {
        let slot = self.find(key);
        if let Some(value) = slot.get() {
            return Ok(value.clone());
        }
        match slot.get_or_try_init(|| make).await {
            Ok(value) => {
                self.enter(key, &slot, (self.weigh)(Some(value)));
                Ok(value.clone())
            }
            Err(error) => {
                self.forget(&key);
                Err(error)
            }
        }
    }

    pub fn insert(&self, key: K, value: V) {
        let weight = (self.weigh)(Some(&value));
        self.enter(key, &Arc::new(OnceCell::new_with(Some(value))), weight);
    }

    pub fn forget(&self, key: &K) {
        let forgotten = self.lock().remove(key);
        drop(forgotten);
    }

    /// Takes out what is idle and what shall not stay. It goes with what is returned.
    pub fn let_go(&self, now: Instant, stays: impl Fn(&K) -> bool) -> Vec<Slot<V>> {
        let mut state = self.lock();
        let entries = state.entries.iter();
        let leaves = |key: &K, entry: &Entry<V>| {
            now.saturating_duration_since(entry.at) >= self.rest || !stays(key)
        };
        let leaving = entries.filter(|(key, entry)| leaves(key, entry));
        let leaving: Vec<K> = leaving.map(|(key, _)| *key).collect();
        let left = leaving.iter().filter_map(|key| state.remove(key)).collect();
        if state.entries.is_empty() {
            state.entries.shrink_to_fit();
        }
        left
    }

    pub fn is_empty(&self) -> bool {
        self.lock().entries.is_empty()
    }

    /// What there is for this key, used now: empty if it is to be made.
    fn find(&self, key: K) -> Slot<V> {
        let mut state = self.lock();
        let known = state.entries.get(&key);
        let known = known.map(|entry| (entry.value.clone(), entry.weight));
        let (slot, weight) = known.unwrap_or_else(|| (Slot::default(), (self.weigh)(None)));
        let dropped = self.put(&mut state, key, &slot, weight);
        drop((state, dropped));
        slot
    }

    fn enter(&self, key: K, slot: &Slot<V>, weight: u64) {
        let mut state = self.lock();
        let dropped = self.put(&mut state, key, slot, weight);
        drop((state, dropped));
    }

    /// Keeps it as used now, and makes room. What is returned is to be dropped without the lock.
    fn put(&self, state: &mut State<K, V>, key: K, slot: &Slot<V>, weight: u64) -> Vec<Slot<V>> {
        state.put(key, slot.clone(), weight);
        let mut dropped = Vec::new();
        // One that is alone stays, whatever it weighs.
        while state.weight > self.capacity && state.entries.len() > 1 {
            let oldest = state.order.first_key_value().map(|(_, key)| *key);
            dropped.extend(oldest.and_then(|key| state.remove(&key)));
        }
        dropped
    }

    fn lock(&self) -> MutexGuard<'_, State<K, V>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + Eq + Hash, V> State<K, V> {
    fn put(&mut self, key: K, value: Slot<V>, weight: u64) {
        self.remove(&key);
        self.uses += 1;
        self.weight += weight;
        self.order.insert(self.uses, key);
        let entry = Entry {
            value,
            weight,
            last_use: self.uses,
            at: Instant::now(),
        };
        self.entries.insert(key, entry);
    }

    fn remove(&mut self, key: &K) -> Option<Slot<V>> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.last_use);
        self.weight -= entry.weight;
        Some(entry.value)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const REST: Duration = Duration::from_secs(20);

    fn recent() -> Recent<u8, Arc<str>> {
        Recent::new(10, REST, |value| {
            value.map_or(1, |value| value.len() as u64)
        })
    }

    async fn get(recent: &Recent<u8, Arc<str>>, key: u8, value: &str) -> Arc<str> {
        let made = recent.get_or_make(key, async { Ok::<_, Infallible>(value.into()) });
        made.await.unwrap()
    }

    #[tokio::test]
    async fn what_was_used_last_stays() {
        let recent = recent();
        for (key, value) in [(1, "one"), (2, "two"), (3, "three")] {
            assert_eq!(&*get(&recent, key, value).await, value);
            // The first one is used all the time.
            assert_eq!(&*get(&recent, 1, "another").await, "one");
        }
        assert_eq!(&*get(&recent, 3, "another").await, "three");
        assert_eq!(&*get(&recent, 2, "another").await, "another");
        assert_eq!(
            &*get(&recent, 4, "more than ten bytes").await,
            "more than ten bytes"
        );
        assert_eq!(&*get(&recent, 4, "another").await, "more than ten bytes");
        let state = recent.lock();
        assert_eq!((state.entries.len(), state.order.len()), (1, 1));
        assert_eq!(state.weight, 19);
    }

    #[tokio::test]
    async fn it_is_made_once_for_all_who_wait() {
        let recent = recent();
        let made = tokio::sync::Semaphore::new(0);
        let make = || {
            recent.get_or_make(1, async {
                made.acquire().await.unwrap().forget();
                Ok::<_, Infallible>("one".into())
            })
        };
        let (mut first, mut second) = (std::pin::pin!(make()), std::pin::pin!(make()));
        assert!(futures_util::poll!(&mut first).is_pending());
        assert!(futures_util::poll!(&mut second).is_pending());
        made.add_permits(1);
        assert_eq!(&*first.await.unwrap(), "one");
        assert_eq!(&*second.await.unwrap(), "one");
        // Nor is a failure kept.
        let failed = recent.get_or_make(2, async { Err(()) }).await;
        assert_eq!(failed, Err(()));
        assert_eq!(&*get(&recent, 2, "two").await, "two");
    }

    #[tokio::test]
    async fn what_rests_or_shall_not_stay_is_dropped() {
        let recent = recent();
        let one = get(&recent, 1, "one").await;
        get(&recent, 2, "two").await;
        recent.let_go(Instant::now(), |key| *key != 1);
        assert_eq!(Arc::strong_count(&one), 1, "and dropped at once");
        assert!(!recent.is_empty());
        recent.let_go(Instant::now() + REST, |_| true);
        assert!(recent.is_empty());
        assert_eq!(recent.lock().weight, 0);
    }
}
