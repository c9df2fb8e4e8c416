//! A publisher of a small channel, one release after the other, each with one path more.

use std::fs;
use std::path::{Path, PathBuf};

use narswarm::nix::StoreDir;
use serde_json::Value;

use crate::chroot_store::ChrootStore;
use crate::random::Random;
use crate::release::{CHANNEL, run};

pub struct Publisher {
    place: PathBuf,
    pub store: ChrootStore,
    releases: usize,
}

impl Publisher {
    /// With `paths` of `size` bytes that nothing compresses.
    pub fn new(place: &Path, paths: usize, size: usize) -> Self {
        let at = |name: &str| place.join(name).to_str().unwrap().to_owned();
        for key in ["channel", "narinfo"] {
            let (name, secret) = (format!("{key}-1"), at(&format!("{key}.sec")));
            let public = at(&format!("{key}.pub"));
            run(&["keygen", &name, "--secret", &secret, "--public", &public]);
        }
        let mut random = Random(7);
        let mut store = ChrootStore::create(&place.join("store"));
        for i in 0..paths {
            let content: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
            store.add(&format!("path-{i}"), |to| fs::write(to, content).unwrap());
        }
        Self {
            place: place.to_owned(),
            store,
            releases: 0,
        }
    }

    /// The next release, with the first `paths` of the store; its link names `seedbox`. What `publish --json` says.
    pub fn publish(&mut self, paths: usize, seedbox: &str) -> Value {
        self.releases += 1;
        let at = |name: &str| self.place.join(name).to_str().unwrap().to_owned();
        let paths = self.store.paths.iter().take(paths);
        let paths: Vec<String> = paths
            .map(|path| path.store_path.full(&StoreDir::default()))
            .collect();
        fs::write(at("paths"), paths.join("\n")).unwrap();
        let said = run(&[
            "publish",
            "--json",
            "--channel",
            CHANNEL,
            "--release",
            &self.releases.to_string(),
            "--secret-key",
            &at("channel.sec"),
            "--narinfo-key",
            &at("narinfo.sec"),
            "--store-paths",
            &at("paths"),
            "--from",
            &format!("local?root={}", self.store.root.display()),
            "--seedbox",
            seedbox,
            "--out",
            &at("channel"),
        ]);
        serde_json::from_str(&said).unwrap()
    }

    /// `[hold]` and `[[channel]]` of a seedbox that has the store and reads the directory.
    pub fn seedbox(&self) -> (String, String) {
        let hold = format!(
            "[hold]\nsource = \"store\"\nlocation = \"{}\"\n",
            self.store.root.display()
        );
        let key = self.key("channel");
        (
            hold,
            crate::release::channel(&key, &self.place.join("channel")),
        )
    }

    /// A public key.
    pub fn key(&self, name: &str) -> String {
        let text = fs::read_to_string(self.place.join(format!("{name}.pub"))).unwrap();
        text.trim().to_owned()
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
