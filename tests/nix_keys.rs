//! Keys and signatures go back and forth between Nix and us.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

#[path = "lab/mod.rs"]
mod lab;

use std::fs;

use lab::Nix;
use narswarm::nix::{Narinfo, PublicKey, SecretKey, TrustedKeys};

/// A cache with `top` and `leaf` in it, signed with the key in the file; the narinfos' texts by file.
fn signed_cache(lab: &Nix, secret_key_file: &str) -> Vec<(std::path::PathBuf, String)> {
    let top = lab.build_two().full(&Default::default());
    let cache = lab.work().join("cache");
    let url = format!(
        "file://{}?compression=none&secret-key={secret_key_file}",
        cache.display()
    );
    lab.on_store("nix", &["copy", "--to", &url, &top]);
    let narinfos: Vec<_> = fs::read_dir(&cache)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "narinfo")
        })
        .map(|path| (path.clone(), fs::read_to_string(path).unwrap()))
        .collect();
    assert_eq!(narinfos.len(), 2);
    narinfos
}

/// Whether Nix takes both paths from the cache with this key alone.
fn nix_accepts(lab: &Nix, key: &PublicKey) {
    let top = lab.build_two().full(&Default::default());
    let (cache, second) = (lab.work().join("cache"), lab.work().join("second"));
    let (url, second) = (
        format!("file://{}", cache.display()),
        second.to_str().unwrap().to_owned(),
    );
    let key = key.to_string();
    let options = [
        "--option",
        "require-sigs",
        "true",
        "--option",
        "trusted-public-keys",
        &key,
    ];
    let realise = [
        "--store",
        &second,
        "--realise",
        &top,
        "--option",
        "substituters",
        &url,
    ];
    lab.run("nix-store", &[&realise[..], &options].concat());
    lab.run(
        "nix",
        &[
            "store",
            "verify",
            "--store",
            &second,
            "-r",
            &top,
            "--trusted-public-keys",
            &key,
        ],
    );
}

#[test]
fn our_secret_key_signs_in_nix() {
    let Some(lab) = Nix::new("nix_keys") else {
        return;
    };
    let key = SecretKey::generate("ours-1").unwrap();
    let file = lab.write("secret", &key.to_key_string());
    for (_, text) in signed_cache(&lab, &file) {
        let info = Narinfo::parse(&text).unwrap();
        let trusted: TrustedKeys = [key.public()].into_iter().collect();
        assert!(trusted.any_verifies(info.fingerprint().as_bytes(), &info.signatures));
        // What Nix prints is what we print.
        assert_eq!(info.to_string(), text);
    }
    nix_accepts(&lab, &key.public());
    let public = lab.run(
        "sh",
        &["-c", &format!("nix key convert-secret-to-public < {file}")],
    );
    assert_eq!(public, key.public().to_string());
}

#[test]
fn nix_s_key_signs_here() {
    let Some(lab) = Nix::new("nix_keys") else {
        return;
    };
    let [secret, public] = ["secret", "public"].map(|name| lab.write(name, ""));
    for file in [&secret, &public] {
        fs::remove_file(file).unwrap();
    }
    lab.on_store(
        "nix-store",
        &["--generate-binary-cache-key", "nix-1", &secret, &public],
    );
    let text = fs::read_to_string(&secret).unwrap();
    let key: SecretKey = text.parse().unwrap();
    assert_eq!(key.to_key_string(), text);
    let public: PublicKey = fs::read_to_string(&public).unwrap().parse().unwrap();
    assert_eq!(key.public(), public);

    for (file, text) in signed_cache(&lab, &secret) {
        let mut info = Narinfo::parse(&text).unwrap();
        let ours = key.sign(info.fingerprint().as_bytes());
        // ed25519 is deterministic: the same key makes the same signature.
        assert_eq!(info.signatures, [ours]);
        let other = SecretKey::generate("other-1").unwrap();
        info.signatures.insert(0, other.sign(b"something else"));
        fs::write(file, info.to_string()).unwrap();
    }
    nix_accepts(&lab, &public);
}
