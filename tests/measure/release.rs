//! A chroot store, published by the real `narswarm publish`, its payloads written beside.

use std::fs;
use std::path::{Path, PathBuf};

use narswarm::catalog::InfoDicts;
use narswarm::nix::{NarHash, SecretKey, StoreDir};
use narswarm::payload::ENCODER_ID;
use narswarm::torrent::InfoDict;

use crate::chroot_store::{ChrootStore, StoredPath};
use crate::lab::{self, Keys, Publication};

pub const CHANNEL: &str = "measure";

pub struct Release {
    publication: Publication,
    pub payloads: PathBuf,
    /// Signs the paths; Nix trusts it.
    pub narinfo_key: SecretKey,
    /// In the order of the store's paths.
    pub infos: Vec<InfoDict>,
}

impl Release {
    /// Everything in `store`; written below `place`.
    pub fn publish(store: &ChrootStore, place: &Path) -> Self {
        let keys = Keys::generate(&place.join("keys"));
        let payloads = place.join("payloads");
        let release = lab::Release {
            more: vec![format!("--payloads={}", payloads.display())],
            ..of(store, &store.paths, &keys, place.join("channel"))
        };
        let publication = release.publish();
        let known = publication.out.join(format!("{ENCODER_ID}.sqlite"));
        let known = InfoDicts::open(&known).unwrap();
        let info = |nar_hash: &NarHash| {
            let name = format!("{}.nar.zst", nar_hash.base32());
            known.named(&name).unwrap().remove(0)
        };
        let infos = store.paths.iter().map(|path| info(&path.nar_hash));
        let narinfo_key = fs::read_to_string(&keys.narinfo_secret).unwrap();
        Self {
            infos: infos.collect(),
            payloads,
            narinfo_key: narinfo_key.trim().parse().unwrap(),
            publication,
        }
    }

    /// `[[channel]]` for those who follow it.
    pub fn channel(&self) -> String {
        channel(&self.publication.keys.channel, &self.publication.out)
    }
}

/// Some paths of a store, to be published.
pub fn of(store: &ChrootStore, paths: &[StoredPath], keys: &Keys, out: PathBuf) -> lab::Release {
    let paths = paths
        .iter()
        .map(|path| path.store_path.full(&StoreDir::default()));
    lab::Release {
        channel: CHANNEL.to_owned(),
        ..lab::Release::of_store(&store.root, paths.collect(), keys, out)
    }
}

pub fn channel(key: &str, manifest: &Path) -> String {
    format!(
        "[[channel]]\nname = \"{CHANNEL}\"\nkey = \"{key}\"\nmanifest = \"{}\"\n",
        manifest.display()
    )
}
