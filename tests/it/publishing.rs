//! Publishing: from a store or a cache the same release, every NarHash checked, a run that was interrupted goes on.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use serde_json::json;

use crate::lab::{
    Answer, Closure, HttpServer, Keys, Need, Nix, Node, NodeConfig, Outcome, Release, Scratch, get,
    narswarm, wait_for,
};

fn lab(test: &str) -> Option<(Nix, Scratch, &'static Closure, Keys)> {
    if !Need::all(test, &[Need::NIX]) {
        return None;
    }
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    Some((nix, scratch, Closure::small(), keys))
}

/// Names of the layers: their SHA-256.
fn layers(out: &Path) -> Vec<String> {
    let files = fs::read_dir(out.join("layers")).unwrap();
    let mut names: Vec<String> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn what_is_written() {
    let Some((_nix, scratch, closure, keys)) = lab("what_is_written") else {
        return;
    };
    let publication = Release::of(closure, &keys, scratch.path("out")).publish();
    let out = &publication.out;
    for name in ["manifest", "pointer", "magnet", "link", "manifest.torrent"] {
        assert!(out.join(name).is_file(), "{name}");
    }
    assert_eq!(layers(out).len(), 1);
    let magnet = fs::read_to_string(out.join("magnet")).unwrap();
    assert_eq!(magnet.trim(), publication.text("magnet"));
    assert!(magnet.contains(&format!("urn:btih:{}", publication.text("info_hash"))));
    assert!(publication.text("link").starts_with("magnet:?xs=urn:btpk:"));
    let link = fs::read_to_string(out.join("link")).unwrap();
    assert_eq!(link.trim(), publication.text("link"));
    assert_eq!(publication.summary["signers"], json!(["lab-narinfo-1"]));
    assert_eq!(publication.text("key"), publication.keys.channel);
    assert_eq!(
        (
            publication.number("sequence"),
            publication.number("new_paths")
        ),
        (1, closure.paths.len() as u64)
    );
}

#[test]
fn a_directory_is_for_one_channel_and_a_key_for_one_purpose() {
    let Some((nix, scratch, closure, keys)) =
        lab("a_directory_is_for_one_channel_and_a_key_for_one_purpose")
    else {
        return;
    };
    let release = Release::of(closure, &keys, scratch.path("out"));
    release.publish();
    let other = Release {
        channel: "other".to_owned(),
        ..release.clone()
    };
    other
        .run()
        .exits(3)
        .says(&["holds releases of channel lab", "use another directory"]);
    let stranger = Release {
        keys: Keys::make(&nix, &scratch.path("stranger")),
        ..release.clone()
    };
    stranger
        .run()
        .exits(3)
        .says(&["signature by lab-channel-1"]);
    let mut one_key = release.clone();
    one_key.keys.narinfo_secret = keys.channel_secret.clone();
    one_key.run().exits(2).says(&["must not sign packages"]);
    let nowhere = Release {
        from: scratch.path("nowhere").to_str().unwrap().to_owned(),
        ..release
    };
    nowhere.run().exits(1).says(&["there is no Nix store at"]);
}

#[test]
fn a_cache_and_the_store_make_the_same_release() {
    let Some((nix, scratch, closure, keys)) = lab("a_cache_and_the_store_make_the_same_release")
    else {
        return;
    };
    let store = Release::of(closure, &keys, scratch.path("store")).publish();
    for compression in ["xz", "zstd", "none", "bzip2", "gzip", "br"] {
        let cache = scratch.path(&format!("cache-{compression}"));
        closure.copy_to_cache(&nix, &keys, &format!("compression={compression}"), &cache);
        let server = HttpServer::directory(&cache);
        for (kind, from) in [
            ("file", format!("file://{}", cache.display())),
            ("http", server.url()),
        ] {
            // One web server is enough for those that differ in nothing but the decoder.
            if kind == "http" && compression != "xz" {
                continue;
            }
            // The cache has signed what the publisher would have signed.
            let out = scratch.path(&format!("{kind}-{compression}"));
            let release = Release {
                from,
                signs: false,
                ..Release::of(closure, &keys, out)
            };
            let publication = release.publish();
            assert_eq!(
                layers(&publication.out),
                layers(&store.out),
                "{kind} {compression}"
            );
            for key in ["paths", "nar_bytes", "payload_bytes"] {
                assert_eq!(
                    publication.number(key),
                    store.number(key),
                    "{kind} {compression} {key}"
                );
            }
        }
    }
}

#[test]
fn a_run_that_was_interrupted_goes_on() {
    let Some((nix, scratch, closure, keys)) = lab("a_run_that_was_interrupted_goes_on") else {
        return;
    };
    let cache = closure.copy_to_cache(&nix, &keys, "compression=none", &scratch.path("cache"));
    // The NAR of the path that is described last is not there the first time.
    let last = closure
        .paths
        .iter()
        .max_by_key(|path| path.store_path.clone())
        .unwrap();
    let narinfo = fs::read_to_string(cache.join(last.narinfo().trim_start_matches('/'))).unwrap();
    let nar = narinfo
        .lines()
        .find_map(|line| line.strip_prefix("URL: "))
        .unwrap();
    let hidden = cache.join("hidden");
    fs::rename(cache.join(nar), &hidden).unwrap();
    let server = HttpServer::directory(&cache);
    let release = Release {
        from: server.url(),
        signs: false,
        ..Release::of(closure, &keys, scratch.path("out"))
    };
    release.run().exits(4).says(&[last.base_name()]);
    assert!(
        !release.out.join("manifest").exists(),
        "half a release looks like a whole one"
    );
    fs::rename(&hidden, cache.join(nar)).unwrap();
    server.forget();
    let publication = release.publish();
    assert_eq!(publication.number("paths"), closure.paths.len() as u64);
    // Beside the one that failed only what was under way at that moment, one per core.
    let cores = std::thread::available_parallelism().unwrap().get();
    assert!(
        server.asked_for(nar) == 1 && server.asked_for("/nar/") <= cores,
        "{:?}",
        server.asked()
    );
    assert_eq!(
        layers(&publication.out),
        layers(
            &Release::of(closure, &keys, scratch.path("whole"))
                .publish()
                .out
        )
    );
}

/// Killed at any moment, and started again until it ends.
#[test]
fn a_run_that_was_killed_goes_on() {
    let Some((_nix, scratch, _, keys)) = lab("a_run_that_was_killed_goes_on") else {
        return;
    };
    let closure = Closure::large();
    let release = Release::of(closure, &keys, scratch.path("out"));
    let mut command = release.command();
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let dicts = || {
        let files = fs::read_dir(&release.out).ok()?;
        let sizes = files
            .flatten()
            .filter(|file| file.file_name().to_string_lossy().contains(".sqlite"));
        Some(
            sizes
                .filter_map(|file| file.metadata().ok())
                .map(|metadata| metadata.len())
                .sum::<u64>(),
        )
    };
    wait_for("something to go on from", Duration::from_secs(60), || {
        dicts().filter(|bytes| *bytes > 100_000)
    });
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(
        !release.out.join("manifest").exists(),
        "it was too late to kill it"
    );
    let again = release.run().success();
    let described = format!("describing: {} paths", closure.paths.len());
    assert!(
        again.stderr.contains("describing: ") && !again.stderr.contains(&described),
        "{}",
        again.stderr
    );
    assert_eq!(again.json()["paths"], closure.paths.len());
}

#[test]
fn the_next_release_describes_only_what_is_new() {
    let Some((_nix, scratch, closure, keys)) = lab("the_next_release_describes_only_what_is_new")
    else {
        return;
    };
    let whole = Release::of(closure, &keys, scratch.path("out"));
    let first = Release {
        paths: vec![closure.inner().store_path.clone()],
        ..whole.clone()
    }
    .publish();
    let old = first.number("paths");
    let outcome = Release {
        name: "r2".to_owned(),
        ..whole.clone()
    }
    .run()
    .success();
    let (new, all) = (closure.paths.len() as u64 - old, closure.paths.len() as u64);
    let said = outcome.json();
    assert_eq!(
        (&said["sequence"], &said["paths"], &said["new_paths"]),
        (&2.into(), &all.into(), &new.into())
    );
    assert!(
        outcome.stderr.contains(&format!("describing: {new} paths")),
        "{}",
        outcome.stderr
    );
    assert_eq!(layers(&whole.out).len(), 2);
    // The same release again adds nothing, but is a release.
    let third = whole.publish();
    assert_eq!(
        (third.number("sequence"), third.number("new_paths")),
        (3, 0)
    );
}

#[test]
fn unsigned_paths_are_refused_by_name() {
    let Some((nix, scratch, closure, keys)) = lab("unsigned_paths_are_refused_by_name") else {
        return;
    };
    let unsigned = Release {
        signs: false,
        ..Release::of(closure, &keys, scratch.path("store"))
    };
    let refused = unsigned
        .run()
        .exits(3)
        .says(&["no signature", "--narinfo-key"]);
    for path in &closure.paths {
        assert!(
            refused.stderr.contains(path.base_name()),
            "{}: {}",
            path.base_name(),
            refused.stderr
        );
    }
    assert!(!unsigned.out.join("manifest").exists());
    // A cache without signatures is no better.
    let cache = scratch.path("cache");
    let url = format!("file://{}", cache.display());
    nix.on(&closure.root, "nix", &["copy", "--to", &url, &closure.top]);
    let unsigned = Release {
        from: url,
        signs: false,
        ..Release::of(closure, &keys, scratch.path("from-cache"))
    };
    unsigned
        .run()
        .exits(3)
        .says(&["no signature", closure.top().base_name()]);
}

#[test]
fn a_path_whose_content_was_changed_is_refused() {
    let Some((nix, scratch, _, keys)) = lab("a_path_whose_content_was_changed_is_refused") else {
        return;
    };
    let top = nix.build_two();
    let top = format!("/nix/store/{top}");
    let closure = Closure::read(&nix, nix.root(), top.clone());
    let words = nix.root().join(top.trim_start_matches('/')).join("words");
    let text = fs::read_to_string(&words).unwrap();
    Command::new("chmod")
        .arg("u+w")
        .arg(&words)
        .status()
        .unwrap();
    fs::write(&words, text.to_uppercase()).unwrap();
    let release = Release::of(&closure, &keys, scratch.path("out"));
    release
        .run()
        .exits(3)
        .says(&["NarHash", closure.top().base_name()]);
    assert!(!release.out.join("manifest").exists());
    // So are the commands that make its payload.
    let real = nix.root().join(top.trim_start_matches('/'));
    let to = scratch.path("payload");
    narswarm([
        "payload",
        real.to_str().unwrap(),
        "-o",
        to.to_str().unwrap(),
    ])
    .exits(3)
    .says(&["NarHash"]);
    assert!(!to.exists());
}

/// A seedbox that has the payload files, and no store.
#[test]
fn payload_files_are_seeded() {
    let Some((nix, scratch, closure, keys)) = lab("payload_files_are_seeded") else {
        return;
    };
    let (release, payloads) = (
        Release::of(closure, &keys, scratch.path("out")),
        scratch.path("payloads"),
    );
    let publish = || {
        let mut command = release.command();
        command.arg("--payloads").arg(&payloads);
        Outcome::of(command).success().json()
    };
    let said = publish();
    let files: Vec<_> = fs::read_dir(&payloads).unwrap().flatten().collect();
    assert_eq!(files.len(), closure.paths.len());
    for file in &files {
        let mode = file.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644, "a seedbox is another user");
    }
    // One that is not whole is made again.
    let first = files[0].path();
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    publish();
    assert!(fs::read(&first).unwrap() == whole);
    let publication = release.publish();
    let seedbox =
        NodeConfig::payload_seedbox(scratch.path("seedbox"), &payloads).follow(&publication);
    let seedbox = Node::start(&seedbox);
    assert_eq!(seedbox.status()["hold"]["used"], said["payload_bytes"]);
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let agent = Node::start(
        &agent
            .follow(&publication)
            .trust(&keys.narinfo)
            .peer(seedbox.peer),
    );
    for path in &closure.paths {
        let nar = get(agent.shim, &path.nar());
        assert!(
            nar.body == nix.dump(&closure.root, &path.store_path),
            "{}",
            path.store_path
        );
    }
    assert_eq!(agent.bytes("swarm"), closure.nar_bytes());
}

#[test]
fn a_cache_that_fails_now_and_then_is_asked_again() {
    let Some((nix, scratch, closure, keys)) = lab("a_cache_that_fails_now_and_then_is_asked_again")
    else {
        return;
    };
    let cache = closure.copy_to_cache(&nix, &keys, "compression=zstd", &scratch.path("cache"));
    let (top, failed) = (closure.top().narinfo(), AtomicBool::new(false));
    let server = HttpServer::start(move |path| {
        let first = path == top && !failed.swap(true, Ordering::Relaxed);
        if first {
            Answer::Status(503)
        } else {
            Answer::file(&cache, path)
        }
    });
    let release = Release {
        from: server.url(),
        signs: false,
        ..Release::of(closure, &keys, scratch.path("out"))
    };
    assert_eq!(
        release.publish().number("paths"),
        closure.paths.len() as u64
    );
    assert_eq!(server.asked_for(&closure.top().narinfo()), 2);
}
