//! Each reason to refuse a manifest has its own name and says what to do; age alone is no reason.

use narswarm::manifest::{Freshness, SignedManifest, VerifiedManifest, VerifyError};
use narswarm::nix::PublicKey;

use crate::sample;

fn verify(
    channel: &str,
    keys: &[PublicKey],
    minimum: u64,
) -> Result<VerifiedManifest, VerifyError> {
    let header = sample::header(5, Vec::new());
    let signed = SignedManifest::sign(&header, &sample::key("example-1")).unwrap();
    SignedManifest::parse(&signed.encode())?.verify(&channel.parse().unwrap(), keys, minimum)
}

fn message(result: Result<VerifiedManifest, VerifyError>) -> (VerifyError, String) {
    let error = result.unwrap_err();
    let text = error.to_string();
    (error, text)
}

#[test]
fn the_channels_own_manifest_is_believed() {
    let keys = [
        sample::key("old-1").public(),
        sample::key("example-1").public(),
    ];
    let verified = verify("example-unstable", &keys, 5).unwrap();
    assert_eq!(verified.header().sequence, 5);
    let again = SignedManifest::parse(verified.encoded()).unwrap();
    assert!(again.verify(&verified.header().channel, &keys, 5).is_ok());
}

#[test]
fn an_older_sequence_is_a_rollback() {
    let keys = [sample::key("example-1").public()];
    let (error, text) = message(verify("example-unstable", &keys, 6));
    assert!(matches!(
        error,
        VerifyError::Rollback {
            found: 5,
            minimum: 6,
            ..
        }
    ));
    assert!(
        text.contains("example-unstable") && text.contains("another source"),
        "{text}"
    );
}

#[test]
fn another_channel_is_refused() {
    let keys = [sample::key("example-1").public()];
    let (error, text) = message(verify("example-small", &keys, 0));
    assert!(matches!(error, VerifyError::WrongChannel { .. }));
    assert!(
        text.contains("example-unstable") && text.contains("example-small"),
        "{text}"
    );
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let keys = [sample::key("stranger-1").public()];
    let (error, text) = message(verify("example-unstable", &keys, 0));
    assert!(matches!(error, VerifyError::UnknownKey { .. }));
    assert!(
        text.contains("example-1") && text.contains("stranger-1"),
        "{text}"
    );
    let (error, text) = message(verify("example-unstable", &[], 0));
    assert!(matches!(error, VerifyError::UnknownKey { .. }), "{text}");
}

#[test]
fn a_key_of_the_same_name_is_not_the_key() {
    let stranger = sample::key("stranger-1").public().to_string();
    let key: PublicKey = stranger.replace("stranger-1", "example-1").parse().unwrap();
    let (error, text) = message(verify("example-unstable", &[key], 0));
    assert_eq!(
        error,
        VerifyError::BadSignature("example-1".into()),
        "{text}"
    );
    // Two keys of one name, as while a key is replaced: either may have signed.
    let key = stranger.replace("stranger-1", "example-1").parse().unwrap();
    assert!(
        verify(
            "example-unstable",
            &[key, sample::key("example-1").public()],
            0
        )
        .is_ok()
    );
}

#[test]
fn a_key_from_a_link_has_no_name_and_verifies_all_the_same() {
    let unnamed = |name: &str| PublicKey::unnamed(&sample::key(name).public().bytes()).unwrap();
    assert!(verify("example-unstable", &[unnamed("example-1")], 0).is_ok());
    let (error, text) = message(verify("example-unstable", &[unnamed("stranger-1")], 0));
    assert!(matches!(error, VerifyError::UnknownKey { .. }), "{text}");
    assert!(text.contains("the link's"), "{text}");
}

#[test]
fn no_signature_is_no_known_key() {
    let bytes = b"d6:header2:de10:signatureslee";
    let signed = SignedManifest::parse(bytes).unwrap();
    let keys = [sample::key("example-1").public()];
    let result = signed.verify(&"example-unstable".parse().unwrap(), &keys, 0);
    assert!(matches!(result, Err(VerifyError::UnknownKey { .. })));
}

#[test]
fn an_expired_manifest_is_stale_and_still_good() {
    let keys = [sample::key("example-1").public()];
    let verified = verify("example-unstable", &keys, 0).unwrap();
    let expires = verified.header().expires;
    assert_eq!(verified.freshness(0), Freshness::Fresh);
    assert_eq!(verified.freshness(expires - 1), Freshness::Fresh);
    assert_eq!(verified.freshness(expires), Freshness::Stale);
    assert_eq!(verified.freshness(u64::MAX), Freshness::Stale);
}
