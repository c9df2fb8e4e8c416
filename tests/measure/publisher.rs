//! A publisher of a small channel, one release after the other, each with one path more.

use std::fs;
use std::path::{Path, PathBuf};

use crate::chroot_store::ChrootStore;
use crate::lab::{self, Keys, Publication};
use crate::random::Random;
use crate::release;

pub struct Publisher {
    out: PathBuf,
    pub store: ChrootStore,
    pub keys: Keys,
    releases: usize,
}

impl Publisher {
    /// With `paths` of `size` bytes that nothing compresses.
    pub fn new(place: &Path, paths: usize, size: usize) -> Self {
        let mut random = Random(7);
        let mut store = ChrootStore::create(&place.join("store"));
        for i in 0..paths {
            let content: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
            store.add(&format!("path-{i}"), |to| fs::write(to, content).unwrap());
        }
        Self {
            out: place.join("channel"),
            store,
            keys: Keys::generate(&place.join("keys")),
            releases: 0,
        }
    }

    /// The next release, with the first `paths` of the store; its link names `seedbox`.
    pub fn publish(&mut self, paths: usize, seedbox: &str) -> Publication {
        self.releases += 1;
        let paths = &self.store.paths[..paths];
        let release = lab::Release {
            name: self.releases.to_string(),
            more: vec![format!("--seedbox={seedbox}")],
            ..release::of(&self.store, paths, &self.keys, self.out.clone())
        };
        release.publish()
    }

    /// `[hold]` and `[[channel]]` of a seedbox that has the store and reads the directory.
    pub fn seedbox(&self) -> (String, String) {
        let hold = format!(
            "[hold]\nsource = \"store\"\nlocation = \"{}\"\n",
            self.store.root.display()
        );
        (hold, release::channel(&self.keys.channel, &self.out))
    }
}

/// An agent that knows nothing but the link; an empty store.
pub fn agent_sections(place: &Path, link: &str, trusted: &str, swarm: &str) -> String {
    format!(
        "trusted_keys = [\"{trusted}\"]\n[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"local?root={}\"\n{swarm}\
         [[channel]]\nlink = \"{link}\"\n",
        place.join("empty").display()
    )
}
