//! What the shim answers on each route, whoever has the bytes and whatever an upstream does.

use std::{fs, path::PathBuf};

use crate::lab::{
    Answer, Closure, HttpServer, InstalledPath, Keys, Need, Nix, Node, NodeConfig, Release,
    Scratch, get, head, request,
};

const UNKNOWN: &str = "zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz";

/// A channel with the inner half of a closure, seeded; and a cache with all of it.
struct Fixture {
    nix: Nix,
    scratch: Scratch,
    closure: &'static Closure,
    keys: Keys,
    cache: PathBuf,
    seedbox: Node,
    agent: NodeConfig,
}

impl Fixture {
    fn new(test: &str) -> Option<Self> {
        if !Need::all(test, &[Need::NIX]) {
            return None;
        }
        let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
        let keys = Keys::make(&nix, &scratch.path("keys"));
        let publication = Release {
            paths: vec![closure.inner().store_path.clone()],
            ..Release::of(closure, &keys, scratch.path("release"))
        };
        let publication = publication.publish();
        let options = "compression=zstd&write-nar-listing=1";
        let cache = closure.copy_to_cache(&nix, &keys, options, &scratch.path("cache"));
        let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
        let seedbox = Node::start(&seedbox.follow(&publication));
        seedbox.wait_for_offer(publication.number("paths") as usize);
        let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
            .follow(&publication)
            .trust(&keys.narinfo)
            .peer(seedbox.peer);
        Some(Self {
            nix,
            scratch,
            closure,
            keys,
            cache,
            seedbox,
            agent,
        })
    }

    fn agent(&self, upstreams: &[&HttpServer]) -> Node {
        let key = &self.keys.narinfo;
        let config = upstreams
            .iter()
            .fold(self.agent.clone(), |agent, upstream| {
                agent.upstream(&upstream.url(), key)
            });
        Node::start(&config)
    }

    fn dump(&self, path: &InstalledPath) -> Vec<u8> {
        self.nix.dump(&self.closure.root, &path.store_path)
    }
}

#[test]
fn cache_info_and_what_does_not_exist() {
    let Some(fixture) = Fixture::new("cache_info_and_what_does_not_exist") else {
        return;
    };
    let upstream = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&upstream]);
    let info = get(agent.shim, "/nix-cache-info");
    assert_eq!(info.status, 200);
    assert_eq!(
        (
            info.field("StoreDir"),
            info.field("WantMassQuery"),
            info.field("Priority")
        ),
        ("/nix/store", "1", "30")
    );
    let asked = head(agent.shim, "/nix-cache-info");
    assert_eq!((asked.status, asked.body.len()), (200, 0));
    assert_eq!(
        asked.header("content-length"),
        info.header("content-length")
    );

    let hash = fixture.closure.top().nar_hash.base32();
    let (top, other) = (fixture.closure.top().hash_part(), "0".repeat(52));
    for path in [
        "/".to_owned(),
        "/x".to_owned(),
        "/x.narinfo".to_owned(),
        format!("/{UNKNOWN}.narinfo"),
        format!("/{UNKNOWN}.ls"),
        "/../../etc/passwd.ls".to_owned(),
        format!("/nar/{UNKNOWN}-{hash}.nar"),
        format!("/nar/{top}-{other}.nar"),
        format!("/nar/{top}.nar"),
        "/nar/x".to_owned(),
        "/nar/".to_owned(),
        "/log/none.drv".to_owned(),
        "/log/../nix-cache-info".to_owned(),
        "/realisations/x".to_owned(),
        "/debuginfo/x".to_owned(),
        "/nix/store".to_owned(),
    ] {
        for method in ["GET", "HEAD"] {
            let response = request(agent.shim, method, &path, &[]);
            assert_eq!(
                (response.status, response.body.len()),
                (404, 0),
                "{method} {path}"
            );
        }
    }
    // Nix sends PUT to caches that it takes for writable ones.
    let put = request(
        agent.shim,
        "PUT",
        "/nix-cache-info",
        &[("Content-Length", "0")],
    );
    assert!((400..500).contains(&put.status), "{}", put.status);
    assert_eq!(agent.status()["refused_404"], 0);
}

#[test]
fn narinfos() {
    let Some(fixture) = Fixture::new("narinfos") else {
        return;
    };
    let upstream = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&upstream]);
    let (listed, passed) = (fixture.closure.inner(), fixture.closure.top());
    for path in [listed, passed] {
        let narinfo = get(agent.shim, &path.narinfo());
        assert_eq!(narinfo.status, 200);
        assert_eq!(narinfo.field("StorePath"), path.store_path);
        // The one lasting name of the raw NAR, wherever it came from.
        assert_eq!(format!("/{}", narinfo.field("URL")), path.nar());
        assert_eq!(narinfo.field("Compression"), "none");
        assert_eq!(narinfo.field("NarHash"), path.nar_hash.to_string());
        assert_eq!(narinfo.field("NarSize"), path.nar_size.to_string());
        assert!(narinfo.field("Sig").starts_with("lab-narinfo-1:"));
        assert!(narinfo.field("Deriver").ends_with(".drv"));
        let names = |paths: &[String]| {
            let mut names: Vec<String> = paths
                .iter()
                .map(|path| path.rsplit('/').next().unwrap().to_owned())
                .collect();
            names.sort();
            names
        };
        let references: Vec<String> = narinfo
            .field("References")
            .split(' ')
            .map(str::to_owned)
            .collect();
        assert_eq!(names(&references), names(&path.references));
        assert!(!narinfo.text().contains("File"), "{}", narinfo.text());
        let asked = head(agent.shim, &path.narinfo());
        assert_eq!((asked.status, asked.body.len()), (200, 0));
        assert_eq!(
            asked.header("content-length"),
            narinfo.header("content-length")
        );
    }
    assert_eq!(
        upstream.asked_for(listed.hash_part()),
        0,
        "a listed path is nobody else's business"
    );
}

/// 200 with all headers that Nix needs, then every way to ask for a part.
fn check_nar(agent: &Node, path: &InstalledPath, bytes: &[u8]) {
    let (shim, nar) = (agent.shim, path.nar());
    let whole = request(shim, "GET", &nar, &[("Accept-Encoding", "gzip, zstd, br")]);
    assert_eq!(whole.status, 200);
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    assert_eq!(
        whole.header("content-length"),
        Some(path.nar_size.to_string().as_str())
    );
    assert_eq!(whole.header("content-encoding"), None);
    assert!(whole.body == bytes, "{nar} has other bytes");
    let asked = head(shim, &nar);
    assert_eq!((asked.status, asked.body.len()), (200, 0));
    assert_eq!(
        asked.header("content-length"),
        whole.header("content-length")
    );
    assert_eq!(asked.header("accept-ranges"), Some("bytes"));
    let size = bytes.len();
    for from in [1, 7, 4096, size / 2, size - 8, size - 1] {
        let part = request(shim, "GET", &nar, &[("Range", &format!("bytes={from}-"))]);
        assert_eq!(part.status, 206, "from {from}");
        assert!(part.body == bytes[from..], "from {from}");
        let range = format!("bytes {from}-{}/{size}", size - 1);
        assert_eq!(part.header("content-range"), Some(range.as_str()));
        assert_eq!(
            part.header("content-length"),
            Some((size - from).to_string().as_str())
        );
    }
    for range in [
        "bytes=0-",
        "bytes=5-9",
        "bytes=-5",
        "bytes=9-5",
        "lines=1-",
        "bytes=x-",
    ] {
        let whole = request(shim, "GET", &nar, &[("Range", range)]);
        assert_eq!(whole.status, 200, "{range}");
        assert!(whole.body == bytes, "{range}");
    }
    for from in [size, size + 1, usize::MAX] {
        let beyond = request(shim, "GET", &nar, &[("Range", &format!("bytes={from}-"))]);
        assert!(
            matches!(beyond.status, 404 | 416),
            "from {from}: {}",
            beyond.status
        );
    }
}

#[test]
fn nars_from_the_swarm() {
    let Some(fixture) = Fixture::new("nars_from_the_swarm") else {
        return;
    };
    let agent = fixture.agent(&[]);
    let path = fixture.closure.inner();
    check_nar(&agent, path, &fixture.dump(path));
    let bytes = &agent.status()["bytes"];
    assert!(bytes["swarm"].as_u64().unwrap() >= path.nar_size);
    assert_eq!(bytes["store"], 0);
}

#[test]
fn nars_from_an_upstream() {
    let Some(fixture) = Fixture::new("nars_from_an_upstream") else {
        return;
    };
    let path = fixture.closure.top();
    for compression in ["zstd", "xz", "bzip2", "gzip", "br", "none"] {
        let (nix, keys) = (&fixture.nix, &fixture.keys);
        let options = format!("compression={compression}");
        let cache = fixture.scratch.path(&format!("cache-{compression}"));
        let cache = fixture.closure.copy_to_cache(nix, keys, &options, &cache);
        let upstream = HttpServer::directory(&cache);
        let agent = fixture.agent(&[&upstream]);
        check_nar(&agent, path, &fixture.dump(path));
        let bytes = &agent.status()["bytes"];
        let sent = bytes["upstream"].as_u64().unwrap();
        assert!(sent >= path.nar_size, "{compression}: {sent}");
        assert_eq!((&bytes["swarm"], &bytes["store"]), (&0.into(), &0.into()));
        agent.stop();
    }
}

#[test]
fn nars_from_the_store() {
    let Some(fixture) = Fixture::new("nars_from_the_store") else {
        return;
    };
    let listed = fixture.closure.inner();
    // Installed, and no peer to ask.
    let agent = NodeConfig::agent(fixture.scratch.path("installed"), &fixture.closure.root);
    let release = fixture.scratch.path("release");
    let agent = agent
        .channel("lab", &fixture.keys.channel, release.to_str().unwrap())
        .trust(&fixture.keys.narinfo);
    let agent = Node::start(&agent);
    agent.wait("offer", |status| {
        status["offer"]["paths"].as_u64() > Some(0)
    });
    check_nar(&agent, listed, &fixture.dump(listed));
    let bytes = &agent.status()["bytes"];
    assert!(bytes["store"].as_u64().unwrap() >= listed.nar_size);
    assert_eq!(
        (&bytes["upstream"], &bytes["swarm"]),
        (&0.into(), &0.into())
    );
}

#[test]
fn the_upstream_takes_over_when_the_swarm_is_gone() {
    let Some(fixture) = Fixture::new("the_upstream_takes_over_when_the_swarm_is_gone") else {
        return;
    };
    let upstream = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&upstream]);
    let listed = fixture.closure.inner();
    assert_eq!(get(agent.shim, &listed.narinfo()).status, 200);
    let Fixture { seedbox, .. } = fixture;
    seedbox.stop();
    let nar = get(agent.shim, &listed.nar());
    assert_eq!((nar.status, nar.body.len() as u64), (200, listed.nar_size));
    assert_eq!(agent.bytes("upstream"), listed.nar_size);
}

/// The cache of the fixture, with something done to every answer for a NAR.
fn spoilt(
    cache: &std::path::Path,
    spoil: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static,
) -> HttpServer {
    let cache = cache.to_owned();
    HttpServer::start(move |path| match Answer::file(&cache, path) {
        Answer::Body(body) if path.starts_with("/nar/") => spoil(body),
        answer => answer,
    })
}

#[test]
fn a_cut_upstream_is_replaced_at_the_byte_where_it_ended() {
    let Some(fixture) = Fixture::new("a_cut_upstream_is_replaced_at_the_byte_where_it_ended")
    else {
        return;
    };
    let path = fixture.closure.top();
    let bytes = fixture.dump(path);
    let cutting = spoilt(&fixture.cache, |body| {
        let half = body.len() / 2;
        Answer::Cut(body, half)
    });
    let good = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&cutting, &good]);
    let nar = get(agent.shim, &path.nar());
    assert_eq!(nar.status, 200);
    assert!(
        nar.body == bytes,
        "{} of {} bytes",
        nar.body.len(),
        bytes.len()
    );
    assert!(cutting.asked_for("/nar/") == 1 && good.asked_for("/nar/") >= 1);
    drop(agent);

    // Alone it can only be cut off, and must not be taken for whole; what came is right.
    let agent = fixture.agent(&[&cutting]);
    let nar = get(agent.shim, &path.nar());
    assert_eq!(nar.status, 200);
    assert_eq!(
        nar.header("content-length"),
        Some(path.nar_size.to_string().as_str())
    );
    assert!(
        nar.body.len() < bytes.len() && bytes.starts_with(&nar.body),
        "{}",
        nar.body.len()
    );
}

#[test]
fn a_wrong_nar_is_never_whole() {
    let Some(fixture) = Fixture::new("a_wrong_nar_is_never_whole") else {
        return;
    };
    let path = fixture.closure.top();
    let other = fs::read(fixture.cache.join(wrong_nar(&fixture))).unwrap();
    let lying = spoilt(&fixture.cache, move |_| Answer::Body(other.clone()));
    let agent = fixture.agent(&[&lying]);
    assert_eq!(get(agent.shim, &path.narinfo()).status, 200);
    let nar = get(agent.shim, &path.nar());
    assert!(
        nar.status == 404 || (nar.body.len() as u64) < path.nar_size,
        "{} {}",
        nar.status,
        nar.body.len()
    );
}

/// Once it was caught it does not stand in the way of the next one again.
#[test]
fn an_upstream_that_sent_a_wrong_nar_is_left_aside() {
    let Some(fixture) = Fixture::new("an_upstream_that_sent_a_wrong_nar_is_left_aside") else {
        return;
    };
    let path = fixture.closure.top();
    let other = fs::read(fixture.cache.join(wrong_nar(&fixture))).unwrap();
    let lying = spoilt(&fixture.cache, move |_| Answer::Body(other.clone()));
    let good = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&lying, &good]);
    let bytes = fixture.dump(path);
    // The first may have to be cut off: wrong bytes were on their way already.
    let first = get(agent.shim, &path.nar());
    assert!(first.body == bytes || first.body.len() < bytes.len());
    let second = get(agent.shim, &path.nar());
    let errors = &agent.status()["errors"];
    assert!(
        second.body == bytes,
        "{} of {} bytes, {errors}",
        second.body.len(),
        bytes.len()
    );
    assert!(
        !errors.to_string().contains(&good.url()),
        "the good one is blamed: {errors}"
    );
}

/// The file of another path's NAR in the cache.
fn wrong_nar(fixture: &Fixture) -> String {
    let narinfo = fixture
        .cache
        .join(fixture.closure.inner().narinfo().trim_start_matches('/'));
    let narinfo = fs::read_to_string(narinfo).unwrap();
    narinfo
        .lines()
        .find_map(|line| line.strip_prefix("URL: "))
        .unwrap()
        .to_owned()
}

#[test]
fn whatever_an_upstream_says_a_narinfo_is_200_or_404() {
    let Some(fixture) = Fixture::new("whatever_an_upstream_says_a_narinfo_is_200_or_404") else {
        return;
    };
    let passed = fixture.closure.top();
    let text = |text: &str| Answer::Body(text.as_bytes().to_vec());
    type Script = Box<dyn Fn() -> Answer + Send + Sync>;
    let scripts: Vec<(&str, Script)> = vec![
        ("500", Box::new(|| Answer::Status(500))),
        ("503", Box::new(|| Answer::Status(503))),
        ("429", Box::new(|| Answer::Status(429))),
        ("403", Box::new(|| Answer::Status(403))),
        ("401", Box::new(|| Answer::Status(401))),
        ("302", Box::new(|| Answer::Status(302))),
        (
            "garbage",
            Box::new(move || text("<html>not a narinfo</html>")),
        ),
        ("nothing", Box::new(|| Answer::Body(vec![]))),
        ("binary", Box::new(|| Answer::Body(vec![0xff; 3000]))),
        ("huge", Box::new(|| Answer::Body(vec![b'x'; 5_000_000]))),
        (
            "cut",
            Box::new(|| Answer::Cut(b"StorePath: /nix/store/".to_vec(), 10)),
        ),
        ("another path", {
            let other = fixture
                .cache
                .join(fixture.closure.inner().narinfo().trim_start_matches('/'));
            let other = fs::read(other).unwrap();
            Box::new(move || Answer::Body(other.clone()))
        }),
    ];
    for (name, script) in scripts {
        let upstream = HttpServer::start(move |_| script());
        let agent = fixture.agent(&[&upstream]);
        for _ in 0..2 {
            let narinfo = get(agent.shim, &passed.narinfo());
            assert_eq!((narinfo.status, narinfo.body.len()), (404, 0), "{name}");
            assert_eq!(get(agent.shim, &passed.nar()).status, 404, "{name}");
        }
        // What the channel lists is not touched by it.
        assert_eq!(
            get(agent.shim, &fixture.closure.inner().narinfo()).status,
            200,
            "{name}"
        );
        let file = get(agent.shim, "/log/x.drv");
        assert!(matches!(file.status, 200 | 404), "{name}: {}", file.status);
    }
}

/// cache.nixos.org's listings and logs, and whatever narinfo somebody stored that way.
#[test]
fn what_is_kept_compressed_arrives_readable() {
    let Some(fixture) = Fixture::new("what_is_kept_compressed_arrives_readable") else {
        return;
    };
    let cache = fixture.cache.clone();
    let upstream = HttpServer::start(move |path| match Answer::file(&cache, path) {
        Answer::Body(body) if path.ends_with(".narinfo") || path.ends_with(".ls") => {
            Answer::Encoded(zstd::encode_all(&body[..], 1).unwrap(), "zstd")
        }
        answer => answer,
    });
    let agent = fixture.agent(&[&upstream]);
    let path = fixture.closure.top();
    assert_eq!(get(agent.shim, &path.narinfo()).status, 200);
    let nar = get(agent.shim, &path.nar());
    assert_eq!(nar.body.len() as u64, path.nar_size);
    let listing = format!("{}.ls", path.hash_part());
    let response = get(agent.shim, &format!("/{listing}"));
    let kept = fs::read(fixture.cache.join(listing)).unwrap();
    assert_eq!(response.header("content-encoding"), Some("zstd"));
    assert_eq!(zstd::decode_all(&response.body[..]).unwrap(), kept);
}

#[test]
fn logs_and_listings_are_passed_through() {
    let Some(fixture) = Fixture::new("logs_and_listings_are_passed_through") else {
        return;
    };
    let files = [
        ("log/abc-hello.drv", "built\n"),
        ("realisations/sha256:abc!out.doi", "{}"),
        ("debuginfo/0123.debug", "{\"archive\":\"../nar/x\"}"),
    ];
    for (path, content) in files {
        let path = fixture.cache.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    let upstream = HttpServer::directory(&fixture.cache);
    let agent = fixture.agent(&[&upstream]);
    for (path, content) in files {
        let response = get(agent.shim, &format!("/{path}"));
        assert_eq!((response.status, response.text()), (200, content), "{path}");
        let asked = head(agent.shim, &format!("/{path}"));
        assert_eq!((asked.status, asked.body.len()), (200, 0), "{path}");
    }
    for path in [fixture.closure.top(), fixture.closure.inner()] {
        let listing = format!("{}.ls", path.hash_part());
        let response = get(agent.shim, &format!("/{listing}"));
        assert_eq!(response.status, 200);
        assert_eq!(
            response.body,
            fs::read(fixture.cache.join(listing)).unwrap()
        );
    }
}
