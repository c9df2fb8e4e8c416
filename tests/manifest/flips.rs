//! Whatever is damaged is refused, and nothing that was damaged on purpose makes a reader panic.

use bytes::Bytes;
use narswarm::manifest::{Layer, LayerEntry, LayerError, Pointer, SignedManifest, assemble};
use proptest::prelude::{any, proptest};
use proptest::sample::Index;
use sha2::{Digest as _, Sha256};

use crate::sample::{self, ENCODER, SYSTEM};

fn layer() -> (LayerEntry, Vec<u8>) {
    let mut assembled = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
    (assembled.layers.remove(0), assembled.new_layer.unwrap())
}

/// The entry of a publisher that signs whatever it has.
fn entry_of(entry: &LayerEntry, bytes: &[u8]) -> LayerEntry {
    let mut entry = entry.clone();
    entry.length = bytes.len() as u64;
    entry.sha256 = Sha256::digest(bytes).into();
    entry
}

/// Everything that a parsed layer can be asked.
fn read_all(layer: &Layer) {
    for row in layer.rows() {
        assert_eq!(layer.find(&row.hash_part()), Some(row.id().row));
        let shared = layer.find_info_hash(&row.info_hash()).unwrap();
        assert_eq!(layer.row(shared).unwrap().info_hash(), row.info_hash());
        let _ = (
            row.store_path(),
            row.nar_hash(),
            row.nar_size(),
            row.payload_length(),
        );
        let _ = (
            row.ca(),
            row.deriver(),
            row.references().count(),
            row.signatures().count(),
        );
    }
    assert!(layer.row(layer.len()).is_none());
}

#[test]
fn a_flipped_bit_in_a_signed_manifest_is_refused() {
    let key = sample::key("example-1");
    let header = sample::header(1, vec![layer().0]);
    let mut bytes = SignedManifest::sign(&header, &key).unwrap().encode();
    let verify = |bytes: &[u8]| {
        SignedManifest::parse(bytes)
            .and_then(|signed| signed.verify(&header.channel, &[key.public()], 0))
    };
    assert!(verify(&bytes).is_ok());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verify(&bytes).is_err(), "bit {bit} of {}", bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    for len in 0..bytes.len() {
        assert!(verify(&bytes[..len]).is_err(), "cut to {len}");
    }
}

#[test]
fn a_flipped_bit_in_a_layer_is_refused() {
    let (entry, mut bytes) = layer();
    read_all(&Layer::parse(bytes.clone().into(), &entry).unwrap());
    for bit in 0..bytes.len() * 8 {
        bytes[bit / 8] ^= 1 << (bit % 8);
        let result = Layer::parse(Bytes::copy_from_slice(&bytes), &entry);
        assert!(
            matches!(result, Err(LayerError::Digest { .. })),
            "bit {bit}"
        );
        bytes[bit / 8] ^= 1 << (bit % 8);
    }
    let result = Layer::parse(Bytes::copy_from_slice(&bytes[1..]), &entry);
    assert!(matches!(result, Err(LayerError::Length { .. })));
}

#[test]
fn a_signed_but_damaged_layer_never_panics() {
    let (entry, mut bytes) = layer();
    let mut taken = 0;
    for at in 0..bytes.len() {
        let good = bytes[at];
        for byte in 0..=255 {
            bytes[at] = byte;
            if let Ok(layer) =
                Layer::parse(Bytes::copy_from_slice(&bytes), &entry_of(&entry, &bytes))
            {
                read_all(&layer);
                taken += 1;
            }
        }
        bytes[at] = good;
    }
    // Hashes, signatures and sizes are free; the rest is not.
    assert!(taken > 0 && taken < bytes.len() * 256, "{taken}");
}

proptest! {
    #[test]
    fn a_layer_with_several_changes_never_panics(changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 1..8)) {
        let (entry, mut bytes) = layer();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(layer) = Layer::parse(Bytes::copy_from_slice(&bytes), &entry_of(&entry, &bytes)) {
            read_all(&layer);
        }
    }

    #[test]
    fn a_changed_header_that_is_signed_never_panics(at in any::<Index>(), byte in any::<u8>()) {
        let header = sample::header(1, vec![layer().0]);
        let key = sample::key("example-1");
        let mut bytes = SignedManifest::sign(&header, &key).unwrap().encode();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if let Ok(signed) = SignedManifest::parse(&bytes) {
            let _ = signed.verify(&header.channel, &[key.public()], 0);
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (entry, _) = layer();
        let _ = SignedManifest::parse(&bytes);
        let _ = Pointer::parse(&bytes);
        let _ = Layer::parse(Bytes::copy_from_slice(&bytes), &entry_of(&entry, &bytes));
    }
}
