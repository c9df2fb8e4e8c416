//! The machine that has just fetched a closure seeds it, out of its store, to the next one.

use std::fs;

use crate::lab::{Closure, Need, Nix, Node, NodeConfig, Place, Publication, Scratch, Substitution};

#[test]
fn the_origin_goes_and_the_swarm_stays() {
    if !Need::all("the_origin_goes_and_the_swarm_stays", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::large());
    let publication = Publication::of(&nix, closure, scratch.root());
    let origin = NodeConfig::store_seedbox(scratch.path("origin"), &closure.root);
    let origin = Node::start(&origin.follow(&publication));
    let agent = |name: &str, peer| {
        let store = scratch.path(&format!("{name}-store"));
        let config = NodeConfig::agent(scratch.path(name), &store);
        (
            config
                .follow(&publication)
                .trust(&publication.keys.narinfo)
                .peer(peer),
            store,
        )
    };
    let fetch = |node: &Node, store| {
        let key = &publication.keys.narinfo;
        let substitution = Substitution {
            nix: &nix,
            place: &Place::Here,
            shim: node.shim,
            key,
            to: store,
        };
        substitution.fetch(closure);
    };

    let (second_config, second_store) = agent("second", origin.peer);
    let second = Node::start(&second_config);
    fetch(&second, &second_store);
    // What Nix has just installed is offered without a restart.
    second.wait_for_offer(closure.paths.len());
    origin.stop();
    // Without what it downloaded there is only the store to seed from.
    second.stop();
    fs::remove_dir_all(scratch.path("second").join("cache")).unwrap();
    let second = Node::start(&second_config);
    second.wait_for_offer(closure.paths.len());

    let (third_config, third_store) = agent("third", second.peer);
    let third = Node::start(&third_config);
    fetch(&third, &third_store);
    let status = third.status();
    assert_eq!(status["bytes"]["swarm"], closure.nar_bytes());
    assert_eq!(status["bytes"]["upstream"], 0);
    let status = second.status();
    assert_eq!(status["offer"]["withdrawn"], 0);
    assert!(status["bytes"]["uploaded"].as_u64().unwrap() >= publication.number("payload_bytes"));
}
