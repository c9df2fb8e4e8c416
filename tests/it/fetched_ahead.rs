//! A Nix that takes one NAR at a time finds the next one here already, from wherever it is; what is only asked about is
//! not fetched.

use std::fs;
use std::time::Duration;

use crate::lab::{
    Channel, Closure, HttpServer, Keys, Need, Nix, Node, NodeConfig, Release, Scratch, get,
    wait_for,
};

const SOON: Duration = Duration::from_secs(30);

/// References first, as Nix takes them.
fn in_order(closure: &Closure) -> Vec<&str> {
    let mut order: Vec<&str> = Vec::new();
    while order.len() < closure.paths.len() {
        let next = closure.paths.iter().filter(|path| {
            let mut others = path
                .references
                .iter()
                .filter(|other| **other != path.store_path);
            !order.contains(&&*path.store_path) && others.all(|other| order.contains(&&**other))
        });
        order.push(
            &next
                .min_by_key(|path| &path.store_path[44..])
                .unwrap()
                .store_path,
        );
    }
    order
}

#[test]
fn what_will_be_asked_for_is_fetched_from_an_upstream() {
    let test = "what_will_be_asked_for_is_fetched_from_an_upstream";
    if !Need::all(test, &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let publication = Release::of(closure, &keys, scratch.path("release")).publish();
    let cache = closure.copy_to_cache(&nix, &keys, "compression=zstd", &scratch.path("cache"));
    let upstream = HttpServer::directory(&cache);
    let agent = |name: &str| {
        let agent = NodeConfig::agent(scratch.path(name), &scratch.path("store"));
        agent.upstream(&upstream.url(), &keys.narinfo)
    };
    let order = in_order(closure);
    for (name, config) in [
        ("unlisted", agent("unlisted")),
        // Listed, but there is no swarm.
        (
            "listed",
            agent("listed").follow(&publication).trust(&keys.narinfo),
        ),
    ] {
        upstream.forget();
        let agent = Node::start(&config);
        for path in &closure.paths {
            assert_eq!(get(agent.shim, &path.narinfo()).status, 200, "{name}");
        }
        assert_eq!(
            upstream.asked_for("/nar/"),
            0,
            "{name}: those were questions"
        );
        let first = closure.path(order[0]);
        assert!(get(agent.shim, &first.nar()).body == nix.dump(&closure.root, order[0]));
        wait_for("all of the closure", SOON, || {
            (upstream.asked_for("/nar/") == closure.paths.len()).then_some(())
        });
        for store_path in &order[1..] {
            let nar = get(agent.shim, &closure.path(store_path).nar());
            assert!(nar.body == nix.dump(&closure.root, store_path), "{name}");
        }
        assert_eq!(upstream.asked_for("/nar/"), closure.paths.len(), "{name}");
        let bytes = &agent.status()["bytes"];
        assert_eq!(bytes["upstream"], closure.nar_bytes(), "{name}");
        assert_eq!(bytes["wasted"], 0, "{name}");
    }
}

/// Asks about these, in their order, and for the first.
fn take_first(channel: &Channel, agent: &Node, paths: &[&str]) {
    for path in paths {
        let narinfo = channel.closure.path(path).narinfo();
        assert_eq!(get(agent.shim, &narinfo).status, 200);
    }
    let nar = get(agent.shim, &channel.closure.path(paths[0]).nar());
    assert!(nar.body == channel.nix.dump(&channel.closure.root, paths[0]));
}

fn wait_until_all_is_kept(channel: &Channel, agent: &Node) {
    wait_for("all of the closure", SOON, || {
        let files = fs::read_dir(agent.state().join("cache")).unwrap();
        let kept = files.filter(|file| {
            let name = file.as_ref().unwrap().file_name();
            name.to_string_lossy().ends_with(".nar.zst")
        });
        (kept.count() == channel.closure.paths.len()).then_some(())
    });
}

/// There is no upstream, and the agent has only just begun to look for its peers.
#[test]
fn a_swarm_alone_is_fetched_from_ahead_too() {
    let Some(channel) = Channel::small("a_swarm_alone_is_fetched_from_ahead_too", &[]) else {
        return;
    };
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    seedbox.wait_for_offer(channel.closure.paths.len());
    let agent = Node::start(&channel.agent("agent").peer(seedbox.peer));
    take_first(&channel, &agent, &in_order(channel.closure));
    wait_until_all_is_kept(&channel, &agent);
}

/// It was late five times: with an upstream nothing but a trial would be fetched ahead from it.
#[test]
fn a_swarm_alone_is_fetched_from_ahead_after_it_was_late() {
    let test = "a_swarm_alone_is_fetched_from_ahead_after_it_was_late";
    let Some(channel) = Channel::small(test, &[]) else {
        return;
    };
    let slow = channel.seedbox("seedbox").upload_limit("150kB/s");
    let seedbox = Node::start(&slow);
    seedbox.wait_for_offer(channel.closure.paths.len());
    let agent = Node::start(&channel.agent("agent").peer(seedbox.peer));
    let order = in_order(channel.closure);
    let (late, ahead) = order.split_at(5);
    for path in late {
        take_first(&channel, &agent, &[*path]);
    }
    slow.upload_limit("10GB/s").write();
    seedbox.hang_up();
    take_first(&channel, &agent, ahead);
    wait_until_all_is_kept(&channel, &agent);
}

#[test]
fn what_is_only_asked_about_is_not_fetched() {
    if !Need::all("what_is_only_asked_about_is_not_fetched", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let keys = Keys::make(&nix, &scratch.path("keys"));
    let cache = closure.copy_to_cache(&nix, &keys, "compression=zstd", &scratch.path("cache"));
    let upstream = HttpServer::directory(&cache);
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    let agent = Node::start(&agent.upstream(&upstream.url(), &keys.narinfo));
    // The top without what it needs: nobody who wants it asks like that.
    let order = in_order(closure);
    for store_path in [order[0], order[1], &closure.top] {
        assert_eq!(
            get(agent.shim, &closure.path(store_path).narinfo()).status,
            200
        );
    }
    assert_eq!(get(agent.shim, &closure.path(order[0]).nar()).status, 200);
    // The second is fetched ahead, and then one that comes after it is asked for: the top had its chance.
    wait_for("the second", SOON, || {
        (upstream.asked_for("/nar/") == 2).then_some(())
    });
    assert_eq!(get(agent.shim, &closure.path(order[1]).nar()).status, 200);
    assert_eq!(
        get(agent.shim, &closure.path(order[2]).narinfo()).status,
        200
    );
    assert_eq!(get(agent.shim, &closure.path(order[2]).nar()).status, 200);
    assert_eq!(upstream.asked_for("/nar/"), 3);
}
