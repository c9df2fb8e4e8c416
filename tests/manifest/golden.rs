//! The formats stay what they are, byte for byte. `NARSWARM_BLESS=1` writes the files anew after a wanted change.

use std::path::Path;

use narswarm::manifest::{Pointer, SignedManifest, assemble};

use crate::sample::{self, ENCODER, Release, SYSTEM};

fn golden(name: &str, found: &[u8]) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/golden")
        .join(name);
    if std::env::var_os("NARSWARM_BLESS").is_some() {
        std::fs::write(&path, found).unwrap();
    }
    let expected =
        std::fs::read(&path).unwrap_or_else(|error| panic!("reading {}: {error}", path.display()));
    assert!(
        found == expected,
        "{name} is not what it was: old manifests could not be read any more"
    );
}

#[test]
fn formats_are_unchanged() {
    let first = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
    golden("layer-1", first.new_layer.as_deref().unwrap());
    let first = Release::fetch(1, first, Default::default());

    let mut rows = sample::rows();
    rows.retain(|row| row.ca.is_none());
    rows.push(sample::row(
        "hello-2.12.1",
        0,
        &["glibc-2.40", "hello-2.12.1"],
    ));
    let second = assemble(Some((&first.header, &first.layers)), ENCODER, SYSTEM, rows).unwrap();
    golden("layer-2", second.new_layer.as_deref().unwrap());

    let key = sample::key("example-1");
    let header = sample::header(2, second.layers);
    let signed = SignedManifest::sign(&header, &key).unwrap();
    golden("manifest", &signed.encode());
    golden("manifest.info", &signed.info_dict().unwrap().encode());
    let manifest = signed.info_dict().unwrap().info_hash();
    let pointer = Pointer::sign(&header.channel, header.sequence, manifest, &key).unwrap();
    golden("pointer", &pointer.encode());
    let verified = signed.verify(&header.channel, &[key.public()], 2).unwrap();
    assert_eq!(*verified.header(), header);
}
