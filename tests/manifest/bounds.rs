//! Absurd sizes and inconsistent parts are refused by name.

use bytes::Bytes;
use narswarm::manifest::{
    AssembleError, Header, HeaderError, Layer, LayerEntry, LayerError, MAX_LAYER_BYTES,
    MAX_MANIFEST_BYTES, NewRow, SignedManifest, VerifyError, assemble,
};
use narswarm::torrent::bencode::BencodeError;
use sha2::{Digest as _, Sha256};

use crate::sample::{self, ENCODER, Release, SYSTEM};

#[test]
fn a_manifest_that_claims_more_than_it_has_is_refused() {
    fn case(input: &[u8], expected: BencodeError) {
        let result = SignedManifest::parse(input).map(|_| ());
        assert_eq!(result, Err(VerifyError::Bencode(expected)));
    }
    let huge = MAX_MANIFEST_BYTES + 1;
    let result = SignedManifest::parse(&vec![b'd'; huge]).map(|_| ());
    assert_eq!(result, Err(VerifyError::Size(huge)));
    let (at, len, max) = (9, 99_999_999_999, 9 * 1024 * 1024);
    case(
        b"d6:header99999999999:",
        BencodeError::TooLong { at, len, max },
    );
    case(
        b"d6:header8000000:x",
        BencodeError::CutOff {
            at: 18,
            wanted: "a string",
        },
    );
    let many = format!("d6:header0:10:signaturesl{}ee", "0:".repeat(17));
    assert!(SignedManifest::parse(many.as_bytes()).is_err());
}

#[test]
fn headers_that_make_no_sense_are_not_signed() {
    fn case(change: impl Fn(&mut Header), expected: HeaderError) {
        let assembled = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
        let mut header = sample::header(1, assembled.layers);
        change(&mut header);
        let result = SignedManifest::sign(&header, &sample::key("example-1"));
        assert_eq!(result.map(|_| ()), Err(expected));
    }
    let value = || "x y".to_owned();
    case(|h| h.sequence = 0, HeaderError::Sequence(0));
    case(|h| h.sequence = 1 << 63, HeaderError::Sequence(1 << 63));
    case(
        |h| h.expires = 5,
        HeaderError::Times {
            created: 1_700_000_001,
            expires: 5,
        },
    );
    case(
        |h| h.release = value(),
        HeaderError::Label {
            part: "release",
            value: value(),
        },
    );
    case(
        |h| h.files[0].name = value(),
        HeaderError::Label {
            part: "release file",
            value: value(),
        },
    );
    let (name, length) = ("nixexprs.tar.xz".to_owned(), 0);
    case(
        |h| h.files[0].length = 0,
        HeaderError::FileLength {
            name: name.clone(),
            length,
        },
    );
    case(
        |h| h.files.push(h.files[0].clone()),
        HeaderError::Twice {
            part: "release file",
            value: name.clone(),
        },
    );
    case(
        |h| h.systems.push(SYSTEM.into()),
        HeaderError::Twice {
            part: "system",
            value: SYSTEM.into(),
        },
    );
    let system = SYSTEM.to_owned();
    case(
        |h| h.systems.clear(),
        HeaderError::LayerSystem {
            number: 1,
            system: system.clone(),
        },
    );
    case(
        |h| h.layers.push(h.layers[0].clone()),
        HeaderError::LayerOrder {
            number: 1,
            previous: 1,
        },
    );
    case(
        |h| h.layers[0].number = 0,
        HeaderError::LayerOrder {
            number: 0,
            previous: 0,
        },
    );
    let empty = HeaderError::EmptyLayer {
        number: 1,
        length: 7,
        rows: 0,
    };
    case(|h| (h.layers[0].rows, h.layers[0].length) = (0, 7), empty);
    case(
        |h| {
            let entry = h.layers[0].clone();
            let numbered = |number| LayerEntry {
                number,
                length: MAX_LAYER_BYTES as u64,
                ..entry.clone()
            };
            h.layers = (1..=3).map(numbered).collect();
        },
        HeaderError::LayerBytes(3 * MAX_LAYER_BYTES as u64),
    );
    let result = |count| {
        let mut header = sample::header(1, Vec::new());
        header.seedboxes = vec![header.seedboxes[0]; count];
        SignedManifest::sign(&header, &sample::key("example-1")).map(|_| ())
    };
    assert_eq!(result(64), Ok(()));
    assert!(matches!(
        result(65),
        Err(HeaderError::Bencode(BencodeError::TooMany { max: 64, .. }))
    ));
}

#[test]
fn a_layer_must_be_what_the_header_says() {
    let assembled = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
    let bytes = Bytes::from(assembled.new_layer.unwrap());
    let case = |change: &dyn Fn(&mut LayerEntry), field: &str| {
        let mut entry = assembled.layers[0].clone();
        change(&mut entry);
        let error = Layer::parse(bytes.clone(), &entry).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    };
    case(&|entry| entry.rows = 5, "rows");
    case(&|entry| entry.number = 2, "number");
    case(&|entry| entry.system = "aarch64-linux".into(), "system");
    case(&|entry| entry.length += 1, "bytes");
    case(&|entry| entry.sha256[0] ^= 1, "SHA-256");
}

/// Damages the text of a layer and signs it all the same.
#[test]
fn damaged_columns_are_named() {
    let assembled = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
    let good = assembled.new_layer.unwrap();
    let case = |from: &[u8], to: &[u8], part: &str| {
        let at = good.windows(from.len()).position(|window| window == from);
        let at = at.unwrap_or_else(|| panic!("no {}", from.escape_ascii()));
        let bytes = [&good[..at], to, &good[at + from.len()..]].concat();
        let mut entry = assembled.layers[0].clone();
        entry.length = bytes.len() as u64;
        entry.sha256 = Sha256::digest(&bytes).into();
        let error = Layer::parse(bytes.into(), &entry).unwrap_err().to_string();
        assert!(error.contains(part), "{}: {error}", to.escape_ascii());
    };
    case(b"formati1e", b"formati2e", "update narswarm");
    case(b"rowsi4e", b"rowsi9999999e", "larger than");
    case(b"hash parts80:", b"hash parts79:", "byte");
    case(b"hash parts80:", b"hash parts99999999999:", "at most");
    case(b"\x06source", b"\x06sour/e", "names");
    case(b"\x06source", b"\xffsource", "names");
    case(b"15:cache.example-1", b"15:aacheaexample-1", "key names");
    case(b"another-1", b"dnother-1", "do not ascend");
    case(b"another-1", b"another\n1", "not the name of a key");
    case(b"another-1", b"another:1", "not the name of a key");
    case(b"fixed:r", b"fixed r", "content addresses");
    case(
        b"encoder13:nar-zstd-test",
        b"encoder13:nar zstd test",
        "encoder",
    );
    case(b"6:system", b"6:systen", "key");
}

#[test]
fn references_must_lead_to_layers_of_the_header() {
    let first = assemble(None, ENCODER, SYSTEM, sample::rows()).unwrap();
    let first = Release::fetch(1, first, Default::default());
    let mut rows = sample::rows();
    rows.push(sample::row("hello-2.12.1", 0, &["glibc-2.40"]));
    let second = assemble(Some((&first.header, &first.layers)), ENCODER, SYSTEM, rows).unwrap();
    let second = Release::fetch(2, second, first.encoded);
    let layer = &second.layers[1];
    let case = |change: &dyn Fn(&mut Header)| {
        let mut header = second.header.clone();
        change(&mut header);
        layer.check_references(&header)
    };
    assert_eq!(case(&|_| ()), Ok(()));
    let (number, referred) = (2, 1);
    let gone = case(&|header| drop(header.layers.remove(0)));
    assert_eq!(gone, Err(LayerError::ForeignLayer { number, referred }));
    let shorter = case(&|header| header.layers[0].rows = 1);
    assert!(matches!(
        shorter,
        Err(LayerError::ForeignRow { rows: 1, .. })
    ));
    let other = case(&|header| header.layers[0].system = "aarch64-linux".into());
    assert!(matches!(other, Err(LayerError::ForeignSystem { .. })));
    let replaced = case(&|header| header.layers[1].sha256 = [0; 32]);
    assert_eq!(replaced, Err(LayerError::Unlisted { number }));
    // A publisher does not go on from such a header either.
    let mut header = second.header.clone();
    header.layers.remove(0);
    let result = assemble(
        Some((&header, &second.layers)),
        ENCODER,
        SYSTEM,
        sample::rows(),
    );
    assert!(matches!(result, Err(AssembleError::Previous(_))));
    let result = assemble(
        Some((&second.header, &second.layers[..1])),
        ENCODER,
        SYSTEM,
        sample::rows(),
    );
    assert_eq!(result, Err(AssembleError::MissingLayer(2)));
}

#[test]
fn rows_that_no_layer_could_hold_are_refused_by_path() {
    fn case(change: impl Fn(&mut Vec<NewRow>), part: &str) {
        let mut rows = sample::rows();
        change(&mut rows);
        let error = assemble(None, ENCODER, SYSTEM, rows)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(part) && error.contains("glibc-2.40"),
            "{error}"
        );
    }
    case(|rows| rows.push(rows[0].clone()), "twice");
    case(|rows| drop(rows.remove(0)), "closure");
    case(|rows| rows[0].nar_size = 0, "NAR size");
    case(|rows| rows[0].nar_size = u64::MAX, "NAR size");
    case(|rows| rows[0].payload_length = 0, "payload length");
    case(|rows| rows[0].ca = Some("x".repeat(256)), "content address");
    case(|rows| rows[0].ca = Some("a b".into()), "content address");
    case(
        |rows| rows[0].signatures[0].key_name = "a\nb".into(),
        "signatures",
    );
    case(
        |rows| rows[0].signatures = vec![rows[0].signatures[0].clone(); 17],
        "signatures",
    );
}
