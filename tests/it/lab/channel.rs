//! A channel of one closure, and machines that follow it: what most tests begin with.

use std::path::{Path, PathBuf};

use super::{
    Closure, Keys, Need, Nix, Node, NodeConfig, Publication, Release, Scratch, Substitution,
};

pub struct Channel {
    pub scratch: Scratch,
    pub nix: Nix,
    pub closure: &'static Closure,
    pub publication: Publication,
}

impl Channel {
    /// `None`, said plainly, where Nix is not installed or something else that the test needs.
    #[track_caller]
    pub fn small(test: &str, needs: &[Need]) -> Option<Self> {
        Self::new(test, needs, Closure::small)
    }

    /// The same of a large closure.
    #[track_caller]
    pub fn large(test: &str) -> Option<Self> {
        Self::new(test, &[], Closure::large)
    }

    #[track_caller]
    fn new(test: &str, needs: &[Need], closure: fn() -> &'static Closure) -> Option<Self> {
        if !Need::all(test, &[&[Need::NIX], needs].concat()) {
            return None;
        }
        let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), closure());
        let publication = Publication::of(&nix, closure, scratch.root());
        Some(Self {
            scratch,
            nix,
            closure,
            publication,
        })
    }

    /// An agent with an empty store that reads the publisher's directory.
    pub fn agent(&self, name: &str) -> NodeConfig {
        self.stranger(name).follow(&self.publication)
    }

    /// An agent with an empty store that knows the channel's link, in which there is no address.
    pub fn linked(&self, name: &str) -> NodeConfig {
        self.stranger(name).link(self.publication.text("link"))
    }

    /// An agent with an empty store that follows nothing.
    pub fn stranger(&self, name: &str) -> NodeConfig {
        NodeConfig::agent(self.scratch.path(name), &self.store(name))
            .trust(&self.publication.keys.narinfo)
    }

    /// The store of an agent.
    pub fn store(&self, name: &str) -> PathBuf {
        self.scratch.path(&format!("{name}-store"))
    }

    /// A seedbox that has everything.
    pub fn seedbox(&self, name: &str) -> NodeConfig {
        NodeConfig::store_seedbox(self.scratch.path(name), &self.closure.root)
            .follow(&self.publication)
    }

    /// A seedbox that has nothing: whoever knows it may meet there.
    pub fn meeting_point(&self, name: &str) -> NodeConfig {
        let empty = self.scratch.directory("empty");
        NodeConfig::payload_seedbox(self.scratch.path(name), &empty).follow(&self.publication)
    }

    /// Real Nix fetches the closure through an agent into the store of that agent.
    #[track_caller]
    pub fn fetch(&self, node: &Node) {
        let substitution = Substitution {
            nix: &self.nix,
            place: node.place(),
            shim: node.shim,
            key: &self.publication.keys.narinfo,
            to: &self.store(node.name()),
        };
        substitution.fetch(self.closure);
    }

    /// The same, all of it from the swarm.
    #[track_caller]
    pub fn fetch_from_swarm(&self, node: &Node) {
        self.fetch(node);
        assert_eq!(node.bytes("swarm"), self.closure.nar_bytes());
    }
}

impl Release {
    /// The closure in its own store.
    pub fn of(closure: &Closure, keys: &Keys, out: PathBuf) -> Self {
        Self::of_store(&closure.root, vec![closure.top.clone()], keys, out)
    }
}

impl Publication {
    /// Publishes `closure` from its store into `directory/release`, with new keys.
    #[track_caller]
    pub fn of(nix: &Nix, closure: &Closure, directory: &Path) -> Self {
        Self::of_all(nix, closure, &[&closure.top], directory)
    }

    /// The same of several paths.
    #[track_caller]
    pub fn of_all(nix: &Nix, closure: &Closure, tops: &[&str], directory: &Path) -> Self {
        let keys = Keys::make(nix, &directory.join("keys"));
        let paths = tops.iter().map(|top| (*top).to_owned()).collect();
        let out = directory.join("release");
        Release::of_store(&closure.root, paths, &keys, out).publish()
    }
}
