//! A restart goes on where the last run was, and a machine that knows nothing yet already serves.

use std::{fs, thread};

use crate::lab::{
    Answer, Channel, Closure, HttpServer, Keys, Need, Nix, Node, NodeConfig, Place, Publication,
    Release, Scratch, Substitution, get,
};

#[test]
fn a_restart_binds_with_the_catalog_from_disk() {
    let Some(channel) = Channel::small("a_restart_binds_with_the_catalog_from_disk", &[]) else {
        return;
    };
    let (nix, closure) = (&channel.nix, channel.closure);
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    seedbox.wait_for_offer(closure.paths.len());
    let config = channel.agent("agent").peer(seedbox.peer);
    let before = Node::start(&config).status();
    assert_eq!(before["channels"][0]["state"], "ok");
    // The second start finds neither the directory nor, the power having gone, anything that was put in order.
    fs::rename(&channel.publication.out, channel.scratch.path("gone")).unwrap();
    let agent = Node::start(&config);
    // At once: no waiting here.
    assert_eq!(get(agent.shim, &closure.top().narinfo()).status, 200);
    let nar = get(agent.shim, &closure.top().nar());
    assert_eq!(nar.body, nix.dump(&closure.root, &closure.top));
    let status = agent.status();
    for key in [
        "name", "key", "release", "sequence", "created", "expires", "state", "paths",
    ] {
        assert_eq!(
            status["channels"][0][key], before["channels"][0][key],
            "{key}"
        );
    }
    let error = status["channels"][0]["last_error"].as_str().unwrap();
    assert!(
        error.contains("cannot read") && error.contains("release/manifest"),
        "{error}"
    );
    // A sequence that cannot be read any more stops news of its channel, and nothing else.
    let shelf = fs::read_dir(agent.state().join("channels")).unwrap();
    let shelf = shelf.flatten().next().unwrap().path();
    agent.stop();
    fs::write(shelf.join("sequence"), "damage").unwrap();
    fs::write(config.state.join("info.sqlite"), "damage").unwrap();
    let agent = Node::start(&config);
    let status = agent.wait("word of it", |status| {
        let error = status["channels"][0]["last_error"].as_str();
        error.is_some_and(|error| error.contains("not a sequence number"))
    });
    assert_eq!(status["channels"][0]["state"], "ok");
    let nar = get(agent.shim, &closure.top().nar());
    assert_eq!(nar.body, nix.dump(&closure.root, &closure.top));
}

#[test]
fn a_download_goes_on_after_a_crash() {
    if !Need::all("a_download_goes_on_after_a_crash", &[Need::NIX]) {
        return;
    }
    const BYTES: u64 = 48_000_000;
    /// What is under way when the power goes: one request window of 2 MiB and pieces begun, with room to spare.
    const LOST: u64 = 8_000_000;
    let (nix, scratch) = (Nix::installed(), Scratch::new());
    let closure = Closure::noise(&nix, BYTES);
    let publication = Publication::of(&nix, &closure, scratch.root());
    let payload = publication.number("payload_bytes");
    assert!(payload >= BYTES);
    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.upload_limit("8MB/s").follow(&publication));
    seedbox.wait_for_offer(1);
    let config = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .peer(seedbox.peer);

    let agent = Node::start(&config);
    let (shim, nar) = (agent.shim, closure.top().nar());
    let cut = thread::spawn(move || get(shim, &nar));
    let done = |status: &serde_json::Value| status["downloads"][0]["done"].as_u64().unwrap_or(0);
    let status = agent.wait("half a download", |status| done(status) > BYTES / 2);
    assert!(done(&status) < BYTES, "{status}");
    assert_eq!(status["downloads"][0]["source"], "swarm");
    assert_eq!(status["downloads"][0]["size"], closure.top().nar_size);
    agent.kill();
    let cut = cut.join().unwrap();
    assert!((cut.body.len() as u64) < closure.top().nar_size);
    let before = seedbox.bytes("uploaded");
    assert!(before < payload * 9 / 10, "{before}");

    let agent = Node::start(&config);
    let whole = get(agent.shim, &closure.top().nar());
    assert_eq!(whole.body, nix.dump(&closure.root, &closure.top));
    let uploaded = seedbox.bytes("uploaded");
    assert!(
        uploaded <= payload + LOST,
        "{uploaded} bytes for {payload}, {before} of them before the crash"
    );
    // Now it is whole, and nobody is asked again.
    assert_eq!(
        get(agent.shim, &closure.top().nar()).body.len() as u64,
        closure.top().nar_size
    );
    assert_eq!(seedbox.bytes("uploaded"), uploaded);
}

#[test]
fn a_machine_without_a_manifest_passes_through() {
    if !Need::all("a_machine_without_a_manifest_passes_through", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let cache = closure.copy_to_cache(&nix, &keys, "compression=xz", &scratch.path("cache"));
    let upstream = HttpServer::directory(&cache);
    // One that follows nothing, and one whose channel is nowhere to be found.
    let nowhere = HttpServer::start(|_| Answer::Status(404));
    for (name, channel) in [("fresh", None), ("lost", Some(nowhere.url()))] {
        let store = scratch.path(&format!("{name}-store"));
        let agent =
            NodeConfig::agent(scratch.path(name), &store).upstream(&upstream.url(), &keys.narinfo);
        let agent = channel
            .iter()
            .fold(agent, |agent, url| agent.channel("lab", &keys.channel, url));
        let agent = Node::start(&agent);
        let key = &keys.narinfo;
        let substitution = Substitution {
            nix: &nix,
            place: &Place::Here,
            shim: agent.shim,
            key,
            to: &store,
        };
        substitution.fetch(closure);
        let status = agent.status();
        assert_eq!(status["bytes"]["upstream"], closure.nar_bytes());
        assert_eq!(status["bytes"]["swarm"], 0);
        assert_eq!(status["upstreams"][0]["state"], "ok");
        assert_eq!(status["refused_404"], 0);
        if channel.is_some() {
            assert_eq!(status["channels"][0]["state"], "none");
            let error = status["channels"][0]["last_error"].as_str().unwrap();
            assert!(error.contains("/manifest is not there"), "{error}");
        }
    }
}

/// The manifest came later than the agent: nothing has to be restarted.
#[test]
fn a_manifest_that_appears_is_followed() {
    if !Need::all("a_manifest_that_appears_is_followed", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let release = Release::of(closure, &keys, scratch.path("release"));
    let server = HttpServer::directory(&release.out);
    let directory = release.out.display().to_string();
    let agents = [("directory", directory), ("url", server.url())].map(|(name, manifest)| {
        let agent = NodeConfig::agent(scratch.path(name), &scratch.path("store"));
        let agent = agent.channel("lab", &keys.channel, &manifest);
        Node::start(&agent.trust(&keys.narinfo))
    });
    for agent in &agents {
        assert_eq!(get(agent.shim, &closure.top().narinfo()).status, 404);
        assert_eq!(agent.status()["channels"][0]["state"], "none");
    }
    release.publish();
    for agent in &agents {
        agent.wait_for_channel();
        assert_eq!(get(agent.shim, &closure.top().narinfo()).status, 200);
    }
}
