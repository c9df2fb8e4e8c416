//! What we read from Nix's database is what Nix says.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

#[path = "lab/mod.rs"]
mod lab;

use std::{fs, os::unix::net::UnixListener, path::Path};

use lab::{Nix, store_path};
use narswarm::{
    nix::{StoreDir, StorePath, verify_ca},
    store::{PathInfo, Store, nar_hash, scan},
};
use serde_json::Value;

fn paths(info: &Value) -> Vec<StorePath> {
    let mut paths: Vec<StorePath> = info
        .as_array()
        .unwrap()
        .iter()
        .map(|path| store_path(path.as_str().unwrap()))
        .collect();
    paths.sort();
    paths
}

fn strings(values: &Value) -> Vec<String> {
    let values = values.as_array().map(Vec::as_slice).unwrap_or_default();
    let mut strings: Vec<String> = values
        .iter()
        .map(|v| v.as_str().unwrap().to_owned())
        .collect();
    strings.sort();
    strings
}

fn check(info: &PathInfo, said: &Value) {
    assert_eq!(info.store_path, store_path(said["path"].as_str().unwrap()));
    assert_eq!(
        info.nar_hash,
        said["narHash"].as_str().unwrap().parse().unwrap()
    );
    assert_eq!(info.nar_size, said["narSize"].as_u64().unwrap());
    assert_eq!(info.references, paths(&said["references"]));
    assert_eq!(info.deriver, said["deriver"].as_str().map(store_path));
    assert_eq!(info.ca.as_deref(), said["ca"].as_str());
    let mut signatures: Vec<String> = info.signatures.iter().map(ToString::to_string).collect();
    signatures.sort();
    assert_eq!(signatures, strings(&said["signatures"]));
}

/// Every way in which a path gets into a store.
fn fill(lab: &Nix) -> StorePath {
    let top = lab.build_two();
    let full = top.full(&StoreDir::default());
    let file = lab.write(".gitignore", "target\n");
    for arguments in [
        &["--add", &file][..],
        &["--add-fixed", "sha1", &file],
        &["--add-fixed", "sha256", &file],
        &["--add-fixed", "sha512", &file],
        &["--add-fixed", "--recursive", "md5", &file],
        &["--add-fixed", "--recursive", "sha512", &file],
    ] {
        lab.on_store("nix-store", arguments);
    }
    // Rewrites the closure into content-addressed paths, of which the top one refers to itself.
    lab.on_store("nix", &["store", "make-content-addressed", &full]);
    for name in ["one-1", "two-1"] {
        let [secret, public] = ["secret", "public"].map(|kind| format!("{name}.{kind}"));
        lab.on_store(
            "nix-store",
            &["--generate-binary-cache-key", name, &secret, &public],
        );
        lab.on_store(
            "nix",
            &["store", "sign", "--key-file", &secret, "-r", &full],
        );
    }
    top
}

#[test]
fn path_infos_and_closures() {
    let Some(lab) = Nix::new("nix_store") else {
        return;
    };
    let top = fill(&lab);
    let store = Store::open(Some(&lab.root())).unwrap();
    let said: Value =
        serde_json::from_str(&lab.on_store("nix", &["path-info", "--all", "--json"])).unwrap();
    let said = said.as_array().unwrap();
    assert!(said.len() >= 12);
    let hashes = store.valid_hashes().unwrap();
    assert_eq!(hashes.len(), said.len());
    let mut content_addressed = 0;
    for said in said {
        let path = store_path(said["path"].as_str().unwrap());
        let info = store.path_info(&path.hash_part()).unwrap().unwrap();
        check(&info, said);
        assert_eq!(
            store.path_infos(std::slice::from_ref(&path)).unwrap(),
            std::slice::from_ref(&info)
        );
        assert!(hashes.contains(&(path.hash_part(), info.nar_hash)));

        let layout = scan(&store.real_path(&path)).unwrap();
        assert_eq!(layout.size(), info.nar_size);
        assert_eq!(nar_hash(layout).unwrap(), info.nar_hash);

        if let Some(ca) = &info.ca {
            content_addressed += 1;
            let verify = |path: &StorePath, references: &[StorePath]| {
                verify_ca(
                    store.store_dir(),
                    path,
                    &info.nar_hash,
                    references,
                    Some(ca),
                )
                .is_some()
            };
            assert!(verify(&path, &info.references), "{path} {ca}");
            let renamed = StorePath::new(path.hash_part(), "renamed").unwrap();
            assert!(!verify(&renamed, &info.references), "{path} {ca}");
            assert!(
                !verify(&path, std::slice::from_ref(&renamed)),
                "{path} {ca}"
            );
        }

        let full = said["path"].as_str().unwrap();
        let mut closure: Vec<StorePath> = lab
            .on_store("nix-store", &["-qR", full])
            .lines()
            .map(store_path)
            .collect();
        closure.sort();
        let ours = store.closure(std::slice::from_ref(&path)).unwrap();
        let ours: Vec<StorePath> = ours.into_iter().map(|info| info.store_path).collect();
        assert_eq!(ours, closure);
    }
    assert!(content_addressed >= 10, "{content_addressed}");

    let info = store.path_info(&top.hash_part()).unwrap().unwrap();
    assert_eq!(info.signatures.len(), 2);
    assert_eq!(info.references.len(), 2);
    assert!(info.deriver.is_some());
    let twice = store.path_infos(&[top.clone(), top.clone()]).unwrap();
    assert_eq!(twice, [info.clone(), info]);
    assert_eq!(store.closure(&[top.clone(), top]).unwrap().len(), 2);
}

#[test]
fn what_is_not_valid() {
    let Some(lab) = Nix::new("nix_store") else {
        return;
    };
    let top = lab.build_two();
    let store = Store::open(Some(&lab.root())).unwrap();
    // Beyond the last path, and between others.
    for digits in ["z", "0", "8"] {
        let part = digits.repeat(32).parse().unwrap();
        assert_eq!(store.path_info(&part).unwrap(), None);
    }
    let absent = StorePath::new(top.hash_part(), "other").unwrap();
    for error in [
        store
            .path_infos(&[top.clone(), absent.clone()])
            .unwrap_err(),
        store.closure(&[top, absent.clone()]).unwrap_err(),
    ] {
        assert_eq!(
            error.to_string(),
            format!(
                "`{}` is not valid in the store {}",
                absent.full(store.store_dir()),
                lab.root().join("nix/store").display()
            )
        );
    }
    let nowhere = Store::open(Some(Path::new("/nowhere"))).unwrap();
    let error = nowhere.valid_hashes().unwrap_err().to_string();
    assert!(
        error.contains("/nowhere/nix/var/nix/db/db.sqlite: No such file"),
        "{error}"
    );
    Store::open(Some(Path::new("relative"))).unwrap_err();
}

#[test]
fn the_generation_changes_when_nix_adds_a_path() {
    let Some(lab) = Nix::new("nix_store") else {
        return;
    };
    lab.build_two();
    let store = Store::open(Some(&lab.root())).unwrap();
    // Past the time in which a stamp does not trust itself.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let before = store.generation();
    store.valid_hashes().unwrap();
    store.valid_hashes().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(100));
    let read = store.generation();
    store.valid_hashes().unwrap();
    assert_eq!(store.generation(), read, "reading alone changes the stamp");
    lab.write("new", "new");
    lab.on_store("nix-store", &["--add", "new"]);
    assert_ne!(store.generation(), before);
    assert_ne!(store.generation(), read);
}

#[test]
fn odd_records() {
    let Some(lab) = Nix::new("nix_store") else {
        return;
    };
    let top = lab.build_two();
    let database = lab.root().join("nix/var/nix/db/db.sqlite");
    let store = Store::open(Some(&lab.root())).unwrap();
    let change = |assignment: &str| {
        let connection = rusqlite::Connection::open(&database).unwrap();
        connection
            .execute(
                &format!("update ValidPaths set {assignment} where path = ?1"),
                [top.full(store.store_dir())],
            )
            .unwrap();
    };
    let info = || store.path_info(&top.hash_part()).map(Option::unwrap);
    let all = store.valid_hashes().unwrap().len();

    change("narSize = null, deriver = '', sigs = '', ca = ''");
    let read = info().unwrap();
    assert_eq!((read.nar_size, read.deriver, read.ca), (0, None, None));
    assert_eq!(read.signatures, []);
    change("sigs = 'broken a:b  c:' ");
    assert_eq!(info().unwrap().signatures, []);
    change("hash = 'md5:00000000000000000000000000000000'");
    let error = info().unwrap_err().to_string();
    assert!(error.contains("-top`: parse NarHash `md5:"), "{error}");
    assert_eq!(store.valid_hashes().unwrap().len(), all - 1);
}

#[test]
fn what_no_nar_can_hold() {
    let dir = tempfile::tempdir().unwrap();
    let _socket = UnixListener::bind(dir.path().join("socket")).unwrap();
    let error = scan(dir.path()).unwrap_err().to_string();
    assert!(error.contains("/socket: a NAR holds only"), "{error}");
    fs::remove_file(dir.path().join("socket")).unwrap();
    let error = scan(&dir.path().join("absent")).unwrap_err().to_string();
    assert!(error.contains("/absent: No such file"), "{error}");
}
