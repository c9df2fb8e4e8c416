//! The demo is the whole thing in miniature, with Nix where it is installed and without it.

use crate::lab::{Need, narswarm};

fn demo(more: &[&str]) {
    let outcome = narswarm([&["demo", "--size", "20MB"], more].concat()).success();
    for word in ["paths", "0 from any upstream", "No name was resolved"] {
        assert!(
            outcome.stdout.contains(word),
            "no '{word}' in: {}",
            outcome.stdout
        );
    }
}

#[test]
fn without_nix() {
    demo(&["--without-nix"]);
}

#[test]
fn with_nix() {
    if Need::all("with_nix", &[Need::NIX]) {
        demo(&[]);
    }
}
