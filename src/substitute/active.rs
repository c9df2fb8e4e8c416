//! The NARs that are being served right now, for `status`.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use crate::nix::StorePath;
use crate::runtime::Source;

/// One NAR on its way to Nix.
pub struct ActiveNar {
    pub store_path: StorePath,
    pub size: u64,
    done: AtomicU64,
    source: Mutex<Source>,
}

impl ActiveNar {
    pub fn done(&self) -> u64 {
        self.done.load(Relaxed)
    }

    pub fn source(&self) -> Source {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn progressed(&self, done: u64, source: Source) {
        self.done.store(done, Relaxed);
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = source;
    }
}

#[derive(Default)]
pub struct ActiveNars {
    next: AtomicU64,
    nars: Mutex<BTreeMap<u64, Arc<ActiveNar>>>,
}

/// Leaves the list when dropped.
pub struct ActiveGuard {
    list: Arc<ActiveNars>,
    id: u64,
    pub nar: Arc<ActiveNar>,
}

impl ActiveNars {
    pub fn enter(
        self: &Arc<Self>,
        store_path: StorePath,
        size: u64,
        source: Source,
    ) -> ActiveGuard {
        let nar = Arc::new(ActiveNar {
            store_path,
            size,
            done: AtomicU64::new(0),
            source: Mutex::new(source),
        });
        let id = self.next.fetch_add(1, Relaxed);
        self.nars
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id, nar.clone());
        ActiveGuard {
            list: self.clone(),
            id,
            nar,
        }
    }

    /// How many wait for bytes from elsewhere.
    pub fn remote(&self) -> usize {
        let nars = self.nars.lock().unwrap_or_else(PoisonError::into_inner);
        let remote = |nar: &&Arc<ActiveNar>| nar.source() != Source::Store;
        nars.values().filter(remote).count()
    }

    pub fn list(&self) -> Vec<Arc<ActiveNar>> {
        self.nars
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
}

impl Drop for ActiveGuard {
    fn drop(&mut self) {
        self.list
            .nars
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.id);
    }
}
