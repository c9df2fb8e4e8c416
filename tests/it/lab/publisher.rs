//! Who publishes releases of a small closure, and machines that follow: for tests of what servers make of them.

use std::path::PathBuf;

use super::{
    Closure, Keys, Need, Nix, NodeConfig, Publication, Release, Scratch, forgery::install,
};

pub struct Publisher {
    pub scratch: Scratch,
    pub closure: &'static Closure,
    pub keys: Keys,
}

impl Publisher {
    /// `None`, said plainly, where Nix is not installed.
    #[track_caller]
    pub fn new(test: &str) -> Option<Self> {
        if !Need::all(test, &[Need::NIX]) {
            return None;
        }
        let scratch = Scratch::new();
        let keys = Keys::make(&Nix::installed(), &scratch.path("keys"));
        Some(Self {
            scratch,
            closure: Closure::small(),
            keys,
        })
    }

    /// All of the closure, to be published into the directory `name`.
    pub fn release(&self, name: &str) -> Release {
        Release::of(self.closure, &self.keys, self.scratch.path(name))
    }

    /// A part of it.
    pub fn small_release(&self, name: &str) -> Release {
        Release {
            paths: vec![self.closure.inner().store_path.clone()],
            ..self.release(name)
        }
    }

    /// A directory with a release, to be replaced by another's.
    pub fn source(&self, name: &str, publication: &Publication) -> PathBuf {
        let source = self.scratch.path(name);
        install(&publication.out, &source);
        source
    }

    /// An agent with an empty store that follows nothing yet.
    pub fn agent(&self, name: &str) -> NodeConfig {
        NodeConfig::agent(self.scratch.path(name), &self.scratch.path("store"))
            .trust(&self.keys.narinfo)
    }

    /// A seedbox of the closure that follows nothing yet.
    pub fn seedbox(&self, name: &str) -> NodeConfig {
        NodeConfig::store_seedbox(self.scratch.path(name), &self.closure.root)
    }
}
