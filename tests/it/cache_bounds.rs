//! The cache never takes more than it may, and a disk that takes nothing at all only costs what could be kept.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::lab::{
    Closure, HttpServer, LoneNar, Mount, Need, Nix, Node, NodeConfig, Publication, Scratch, get,
    narswarm,
};

/// All files together, in bytes.
fn size_of(directory: &Path) -> u64 {
    let files = fs::read_dir(directory).into_iter().flatten().flatten();
    files
        .filter_map(|file| file.metadata().ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Looks at a directory all the time.
struct Watch {
    largest: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn start(directory: &Path) -> Self {
        let watch = Self {
            largest: Arc::default(),
            stop: Arc::default(),
        };
        let (largest, stop) = (watch.largest.clone(), watch.stop.clone());
        let directory = directory.to_owned();
        thread::spawn(move || {
            while !stop.load(Relaxed) {
                largest.fetch_max(size_of(&directory), Relaxed);
                thread::sleep(Duration::from_millis(1));
            }
        });
        watch
    }

    fn largest(&self) -> u64 {
        self.largest.load(Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

#[test]
fn the_cache_never_exceeds_its_size() {
    if !Need::all("the_cache_never_exceeds_its_size", &[Need::NIX]) {
        return;
    }
    const PATHS: u64 = 10;
    const EACH: u64 = 1_000_000;
    const LIMIT: u64 = 3_500_000;
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let tops: Vec<String> = (0..PATHS)
        .map(|k| Closure::noise(&nix, EACH + k).top)
        .collect();
    let tops: Vec<&str> = tops.iter().map(String::as_str).collect();
    let closure = Closure::read_all(&nix, nix.root(), &tops);
    let publication = Publication::of_all(&nix, &closure, &tops, scratch.root());
    let cache = closure.copy_all_to_cache(&nix, &publication.keys, &tops, &scratch.path("cache"));
    let upstream = HttpServer::directory(&cache);
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication));
    seedbox.wait_for_offer(PATHS as usize);
    let agent = |name: &str| {
        let agent = NodeConfig::agent(scratch.path(name), &scratch.path("store"));
        agent
            .follow(&publication)
            .trust(&publication.keys.narinfo)
            .cache_size("3500kB")
    };
    let unlisted = NodeConfig::agent(scratch.path("unlisted"), &scratch.path("store"));
    for (name, config) in [
        ("swarm", agent("swarm").peer(seedbox.peer)),
        (
            "upstream",
            agent("upstream").upstream(&upstream.url(), &publication.keys.narinfo),
        ),
        (
            "unlisted",
            unlisted
                .cache_size("3500kB")
                .upstream(&upstream.url(), &publication.keys.narinfo),
        ),
    ] {
        let agent = Node::start(&config);
        let watch = Watch::start(&agent.state().join("cache"));
        // As Nix: all narinfos first, and then more at a time than fit.
        for path in &closure.paths {
            assert_eq!(get(agent.shim, &path.narinfo()).status, 200, "{name}");
        }
        for round in 0..2 {
            let readers: Vec<_> = closure
                .paths
                .iter()
                .map(|path| {
                    let (shim, nar) = (agent.shim, path.nar());
                    (path, thread::spawn(move || get(shim, &nar)))
                })
                .collect();
            for (path, reader) in readers {
                let nar = reader.join().unwrap();
                let whole = nix.dump(&closure.root, &path.store_path);
                let status = agent.status();
                assert!(nar.body == whole, "{name}, round {round}: {status}");
            }
        }
        let largest = watch.largest();
        assert!(largest <= LIMIT, "{name}: {largest}");
        assert!(largest > EACH, "{name} was looked at: {largest}");
    }
}

/// What does not fit at all is passed on.
#[test]
fn a_nar_larger_than_the_cache_comes_from_the_upstream() {
    let test = "a_nar_larger_than_the_cache_comes_from_the_upstream";
    let Some(lone) = LoneNar::new(test, 6_000_000) else {
        return;
    };
    let upstream = lone.good_upstream();
    let seedbox = Node::start(&lone.seedbox("seedbox"));
    seedbox.wait_for_offer(1);
    let agent = lone
        .agent("agent")
        .cache_size("2MB")
        .peer(seedbox.peer)
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let agent = Node::start(&agent);
    lone.check(&agent);
    assert_eq!(agent.bytes("upstream"), lone.path().nar_size);
    let size = size_of(&agent.state().join("cache"));
    assert!(size < 2_000_000, "{size}");
}

/// A disk on which nothing can be written any more, for two reasons: bodies flow all the same.
#[test]
fn a_disk_that_takes_nothing_is_passed_by() {
    let test = "a_disk_that_takes_nothing_is_passed_by";
    if !Need::all(test, &[Need::Namespaces]) {
        return;
    }
    let Some(lone) = LoneNar::new(test, 6_000_000) else {
        return;
    };
    let upstream = lone.good_upstream();
    let seedbox = Node::start(&lone.seedbox("seedbox"));
    seedbox.wait_for_offer(1);
    for (name, options) in [("full", "size=3m"), ("read-only", "ro")] {
        let config = lone.agent(name).peer(seedbox.peer);
        let cache = config.state.join("cache");
        fs::create_dir_all(&cache).unwrap();
        let _mount = Mount::tmpfs(&cache, options);
        // Nobody else has it: a 404, or an honest cut.
        let agent = Node::start(&config);
        let nar = agent.get(&lone.path().nar());
        assert!(nar.elapsed < Duration::from_secs(10), "{:?}", nar.elapsed);
        let came = nar.body.len();
        assert!(
            nar.status == 404 || (came < lone.bytes.len() && lone.bytes.starts_with(&nar.body)),
            "{name}: {} with {came} bytes",
            nar.status
        );
        agent.stop();
        let agent = Node::start(&config.upstream(&upstream.url(), &lone.keys.narinfo));
        for _ in 0..2 {
            lone.check(&agent);
        }
        agent.stop();
    }
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let test = "a_state_directory_that_cannot_be_written_is_named";
    if !Need::all(test, &[Need::Namespaces]) {
        return;
    }
    let scratch = Scratch::new();
    let state = scratch.directory("state");
    let config = NodeConfig::agent(state.clone(), &scratch.path("store"));
    config.write();
    let _mount = Mount::tmpfs(&state, "ro");
    let file = config.file();
    narswarm(["agent", "--config", file.to_str().unwrap()])
        .exits(1)
        .says(&[state.to_str().unwrap(), "Read-only"]);
}
