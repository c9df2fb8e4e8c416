//! A chroot store, published by the real `narswarm publish`, its payloads written beside.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use narswarm::catalog::InfoDicts;
use narswarm::nix::{SecretKey, StoreDir};
use narswarm::payload::ENCODER_ID;
use narswarm::torrent::InfoDict;

use crate::chroot_store::ChrootStore;
use crate::node_process::NARSWARM;

pub const CHANNEL: &str = "measure";

pub struct Release {
    directory: PathBuf,
    pub payloads: PathBuf,
    /// The channel's public key.
    key: String,
    /// Signs the paths; Nix trusts it.
    pub narinfo_key: SecretKey,
    /// In the order of the store's paths.
    pub infos: Vec<InfoDict>,
}

impl Release {
    /// Everything in `store`; written below `place`.
    pub fn publish(store: &ChrootStore, place: &Path) -> Self {
        let at = |name: &str| place.join(name).to_str().unwrap().to_owned();
        for key in ["channel", "narinfo"] {
            let (name, secret) = (format!("{key}-1"), at(&format!("{key}.sec")));
            let public = at(&format!("{key}.pub"));
            run(&["keygen", &name, "--secret", &secret, "--public", &public]);
        }
        let paths = store.paths.iter().map(|path| &path.store_path);
        let paths: Vec<String> = paths.map(|path| path.full(&StoreDir::default())).collect();
        fs::write(at("paths"), paths.join("\n")).unwrap();
        let (directory, payloads) = (at("channel"), at("payloads"));
        let from = format!("local?root={}", store.root.display());
        run(&[
            "publish",
            "--channel",
            CHANNEL,
            "--release",
            "1",
            "--secret-key",
            &at("channel.sec"),
            "--narinfo-key",
            &at("narinfo.sec"),
            "--store-paths",
            &at("paths"),
            "--from",
            &from,
            "--out",
            &directory,
            "--payloads",
            &payloads,
        ]);
        let directory = PathBuf::from(directory);
        let infos = InfoDicts::open(&directory.join(format!("{ENCODER_ID}.sqlite"))).unwrap();
        let info = |nar_hash: &narswarm::nix::NarHash| {
            let name = format!("{}.nar.zst", nar_hash.base32());
            infos.named(&name).unwrap().remove(0)
        };
        Self {
            infos: store
                .paths
                .iter()
                .map(|path| info(&path.nar_hash))
                .collect(),
            payloads: payloads.into(),
            key: fs::read_to_string(at("channel.pub"))
                .unwrap()
                .trim()
                .to_owned(),
            narinfo_key: fs::read_to_string(at("narinfo.sec"))
                .unwrap()
                .trim()
                .parse()
                .unwrap(),
            directory,
        }
    }

    /// `[[channel]]` for those who follow it.
    pub fn channel(&self) -> String {
        channel(&self.key, &self.directory)
    }
}

pub fn channel(key: &str, manifest: &Path) -> String {
    format!(
        "[[channel]]\nname = \"{CHANNEL}\"\nkey = \"{key}\"\nmanifest = \"{}\"\n",
        manifest.display()
    )
}

/// The program, run to its end; what it says.
pub fn run(arguments: &[&str]) -> String {
    let output = Command::new(NARSWARM).args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "narswarm {arguments:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
