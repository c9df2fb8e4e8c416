//! The manifest file: a header and signatures over it, not yet believed.
//!
//! ```text
//! d6:header900:<header>10:signaturesl103:example-1:<base64 of 64 bytes>ee
//! ```
//! Signed are the bytes `narswarm manifest 1\n` and then the header, so that a channel key's signature can never be
//! taken for one over something else.

use bytes::Bytes;

use crate::nix::{PublicKey, SecretKey, Signature};
use crate::torrent::bencode::{Reader, Writer};
use crate::torrent::{InfoDict, TorrentError};

use super::limits::{MAX_HEADER_BYTES, MAX_MANIFEST_BYTES, MAX_SIGNATURE_TEXT, MAX_SIGNATURES};
use super::{ChannelName, Header, HeaderError, VerifiedManifest, VerifyError};

const DOMAIN: &[u8] = b"narswarm manifest 1\n";

#[derive(Debug, Clone)]
pub struct SignedManifest {
    header: Bytes,
    signatures: Vec<Signature>,
}

impl SignedManifest {
    /// Signs a header, if it is one that readers will take.
    pub fn sign(header: &Header, key: &SecretKey) -> Result<Self, HeaderError> {
        let header = header.encode();
        Header::decode(&header)?;
        let signature = key.sign(&signed_bytes(&header));
        Ok(Self {
            header: header.into(),
            signatures: vec![signature],
        })
    }

    pub fn parse(input: &[u8]) -> Result<Self, VerifyError> {
        if input.len() > MAX_MANIFEST_BYTES {
            return Err(VerifyError::Size(input.len()));
        }
        let mut reader = Reader::new(input);
        reader.open_dict()?;
        reader.key("header")?;
        let header = Bytes::copy_from_slice(reader.bytes(MAX_HEADER_BYTES)?);
        reader.key("signatures")?;
        let signatures = reader.list(MAX_SIGNATURES, |reader| {
            let text = reader.text(MAX_SIGNATURE_TEXT)?;
            let signature = text.parse::<Signature>().ok();
            // One text for one signature: base64 has spare bits that must not carry anything.
            let signature = signature.filter(|signature| signature.to_string() == text);
            signature.ok_or_else(|| VerifyError::SignatureText(text.to_owned()))
        })?;
        reader.close()?;
        reader.finish()?;
        Ok(Self { header, signatures })
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes_at("header", &self.header);
        out.texts_at(
            "signatures",
            self.signatures.iter().map(ToString::to_string),
        );
        out.close();
        out.finish()
    }

    /// The torrent of the manifest file: what a pointer points to.
    pub fn info_dict(&self) -> Result<InfoDict, TorrentError> {
        info_dict(&self.encode())
    }

    /// Believes the header if a key of the channel signed it, it is this channel's, and it is not older than what was
    /// seen before. Nothing of the header is read before its signature was checked.
    pub fn verify(
        self,
        channel: &ChannelName,
        keys: &[PublicKey],
        minimum_sequence: u64,
    ) -> Result<VerifiedManifest, VerifyError> {
        let message = signed_bytes(&self.header);
        let mut known = false;
        for signature in &self.signatures {
            // A key from a channel link has no name: it fits what it verifies.
            let mut nameless = keys.iter().filter(|key| key.name().is_empty());
            if nameless.any(|key| key.verify_raw(&message, &signature.bytes)) {
                known = true;
                continue;
            }
            let mut named = keys
                .iter()
                .filter(|key| key.name() == signature.key_name)
                .peekable();
            if named.peek().is_none() {
                continue;
            }
            if !named.any(|key| key.verify(&message, signature)) {
                return Err(VerifyError::BadSignature(signature.key_name.clone()));
            }
            known = true;
        }
        if !known {
            return Err(VerifyError::UnknownKey {
                found: names(
                    self.signatures
                        .iter()
                        .map(|signature| signature.key_name.as_str()),
                ),
                expected: names(keys.iter().map(|key| match key.name() {
                    "" => "the link's",
                    name => name,
                })),
            });
        }
        let header = Header::decode(&self.header)?;
        if header.channel != *channel {
            return Err(VerifyError::WrongChannel {
                found: header.channel,
                expected: channel.clone(),
            });
        }
        if header.sequence < minimum_sequence {
            return Err(VerifyError::Rollback {
                channel: header.channel,
                found: header.sequence,
                minimum: minimum_sequence,
            });
        }
        Ok(VerifiedManifest::new(header, self.encode().into()))
    }
}

/// The torrent of an encoded manifest.
pub(super) fn info_dict(encoded: &[u8]) -> Result<InfoDict, TorrentError> {
    InfoDict::of_file("manifest", encoded)
}

fn signed_bytes(header: &[u8]) -> Vec<u8> {
    [DOMAIN, header].concat()
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.join(", "),
    }
}
