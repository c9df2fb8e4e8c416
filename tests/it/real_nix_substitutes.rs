//! A published closure goes from a store through the swarm into another store, and Nix believes it.

use crate::lab::{
    Closure, Keys, Need, Nix, Node, NodeConfig, Place, Publication, Scratch, Substitution,
};

#[test]
fn a_large_closure_into_an_empty_store() {
    if !Need::all("a_large_closure_into_an_empty_store", &[Need::NIX]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::large());
    let files: u64 = closure.nar_bytes();
    assert!(closure.paths.len() >= 60 && files >= 200_000_000, "{files}");
    assert!(closure.top().references.len() >= 2);
    let publication = Publication::of(&nix, closure, scratch.root());
    assert_eq!(publication.number("paths"), closure.paths.len() as u64);
    assert_eq!(publication.number("nar_bytes"), closure.nar_bytes());

    let seedbox = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seedbox = Node::start(&seedbox.follow(&publication));
    seedbox.wait_for_offer(closure.paths.len());
    let store = scratch.path("store");
    let agent = NodeConfig::agent(scratch.path("agent"), &store)
        .follow(&publication)
        .trust(&publication.keys.narinfo)
        .peer(seedbox.peer);
    let agent = Node::start(&agent);

    let substitution = Substitution {
        nix: &nix,
        place: &Place::Here,
        shim: agent.shim,
        key: &publication.keys.narinfo,
        to: &store,
    };
    // The signature that Nix asks for is really the one that decides.
    let stranger = Keys::make(&nix, &scratch.path("stranger")).narinfo;
    let strangers = Substitution {
        key: &stranger,
        to: &scratch.path("strangers"),
        ..substitution
    };
    let refused = strangers.realise(&closure.top);
    assert_ne!(refused.code, 0, "{}", refused.stderr);

    substitution.fetch(closure);
    let status = agent.status();
    assert_eq!(status["bytes"]["upstream"], 0);
    assert_eq!(status["bytes"]["swarm"], closure.nar_bytes());
    assert_eq!(status["refused_404"], 0);
    assert_eq!(status["errors"].as_array().unwrap().len(), 0, "{status}");
    // Everything went over the wire once, and compressed.
    let payloads = publication.number("payload_bytes");
    assert!(payloads < closure.nar_bytes() * 3 / 4);
    let uploaded = seedbox.bytes("uploaded");
    assert!(
        uploaded >= payloads && uploaded <= payloads * 11 / 10,
        "{uploaded} of {payloads}"
    );
}
