//! The pointer: a small signed record that names a channel's newest manifest.
//!
//! ```text
//! d1:k32:<ed25519 public key>4:salt14:nixos-unstable3:seqi7e3:sig64:<signature>1:v29:d2:ih20:<info hash>ee
//! ```
//! A BEP 44 mutable item: `v` names the torrent of the signed manifest, `seq` is the manifest's sequence, the salt is the
//! channel's name. `v` is BEP 46's dictionary inside of a string, because some nodes of the DHT, ours among them, keep
//! strings only. Signed are the bytes `4:salt14:nixos-unstable3:seqi7e1:v29:d2:ih20:...e`. The same bytes live in the DHT, in a publisher's `pointer` file and in gossip.

use data_encoding::BASE64;
use ed25519_dalek::{Signature, VerifyingKey};

use crate::nix::{PublicKey, SecretKey};
use crate::torrent::InfoHash;
use crate::torrent::bencode::{Reader, Writer};

use super::limits::{MAX_LABEL, MAX_SEQUENCE};
use super::{ChannelName, PointerError};

/// BEP 44 allows values of 1000 bytes; with key, salt and signature around them this is ample.
pub const MAX_POINTER_BYTES: usize = 1280;

/// The dictionary has 29 bytes.
const MAX_VALUE: usize = 64;

/// Always carries a valid signature by its own key. Whether that is the channel's key, `verify` tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    key: [u8; 32],
    channel: ChannelName,
    sequence: u64,
    manifest: InfoHash,
    signature: [u8; 64],
}

impl Pointer {
    /// Signs the pointer to the manifest whose torrent is `manifest` and whose header has `sequence`.
    pub fn sign(
        channel: &ChannelName,
        sequence: u64,
        manifest: InfoHash,
        key: &SecretKey,
    ) -> Result<Self, PointerError> {
        if !(1..=MAX_SEQUENCE).contains(&sequence) {
            return Err(PointerError::Sequence(sequence as i64));
        }
        let message = signed_bytes(channel.as_str().as_bytes(), sequence, &value(manifest));
        Ok(Self {
            key: key.public().bytes(),
            channel: channel.clone(),
            sequence,
            manifest,
            signature: key.sign(&message).bytes,
        })
    }

    /// Takes a mutable item as a DHT gives it.
    pub fn from_item(
        key: [u8; 32],
        salt: &[u8],
        sequence: i64,
        item_value: &[u8],
        signature: [u8; 64],
    ) -> Result<Self, PointerError> {
        let channel = std::str::from_utf8(salt)
            .ok()
            .and_then(|salt| salt.parse().ok());
        let channel: ChannelName = channel.ok_or(PointerError::Salt)?;
        let mut reader = Reader::new(item_value);
        let manifest = read_value(&mut reader)?;
        reader.finish()?;
        let positive = u64::try_from(sequence)
            .ok()
            .filter(|sequence| *sequence > 0);
        let sequence = positive.ok_or(PointerError::Sequence(sequence))?;
        let message = signed_bytes(salt, sequence, item_value);
        if !is_signed(&key, &message, &signature) {
            return Err(PointerError::BadSignature);
        }
        Ok(Self {
            key,
            channel,
            sequence,
            manifest,
            signature,
        })
    }

    pub fn parse(input: &[u8]) -> Result<Self, PointerError> {
        if input.len() > MAX_POINTER_BYTES {
            return Err(PointerError::Size(input.len()));
        }
        let mut reader = Reader::new(input);
        reader.open_dict()?;
        reader.key("k")?;
        let key = reader.array()?;
        reader.key("salt")?;
        let salt = reader.bytes(MAX_LABEL)?;
        reader.key("seq")?;
        let sequence = reader.unsigned(MAX_SEQUENCE)? as i64;
        reader.key("sig")?;
        let signature = reader.array()?;
        reader.key("v")?;
        let item_value = reader.bytes(MAX_VALUE)?;
        reader.close()?;
        reader.finish()?;
        Self::from_item(key, salt, sequence, item_value, signature)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes_at("k", self.key);
        out.bytes_at("salt", self.channel.as_str());
        out.unsigned_at("seq", self.sequence);
        out.bytes_at("sig", self.signature);
        out.bytes_at("v", self.value());
        out.close();
        out.finish()
    }

    /// Whether this is the channel's pointer, signed by one of its keys and not older than what was seen before.
    pub fn verify(
        &self,
        channel: &ChannelName,
        keys: &[PublicKey],
        minimum_sequence: u64,
    ) -> Result<(), PointerError> {
        if !keys.iter().any(|key| key.bytes() == self.key) {
            let found = BASE64.encode(&self.key);
            return Err(PointerError::UnknownKey { found });
        }
        if self.channel != *channel {
            return Err(PointerError::WrongChannel {
                found: self.channel.clone(),
                expected: channel.clone(),
            });
        }
        if self.sequence < minimum_sequence {
            return Err(PointerError::Rollback {
                channel: self.channel.clone(),
                found: self.sequence,
                minimum: minimum_sequence,
            });
        }
        Ok(())
    }

    /// Where the item lives in the DHT: the channel's topic.
    pub fn target(&self) -> InfoHash {
        self.channel.topic(&self.key)
    }

    pub fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub fn channel(&self) -> &ChannelName {
        &self.channel
    }

    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The torrent of the signed manifest.
    pub fn manifest(&self) -> InfoHash {
        self.manifest
    }

    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The content of the item's `v`.
    pub fn value(&self) -> Vec<u8> {
        value(self.manifest)
    }
}

fn value(manifest: InfoHash) -> Vec<u8> {
    let mut out = Writer::new();
    out.open_dict();
    out.bytes_at("ih", manifest.as_bytes());
    out.close();
    out.finish()
}

fn read_value(reader: &mut Reader<'_>) -> Result<InfoHash, PointerError> {
    reader.open_dict()?;
    reader.key("ih")?;
    let manifest = InfoHash::from_bytes(reader.array()?);
    reader.close()?;
    Ok(manifest)
}

/// BEP 44: the item's salt, seq and v as they would stand in a dictionary, without its `d` and `e`.
fn signed_bytes(salt: &[u8], sequence: u64, value: &[u8]) -> Vec<u8> {
    let mut out = Writer::new();
    out.bytes_at("salt", salt);
    out.unsigned_at("seq", sequence);
    out.bytes_at("v", value);
    out.finish()
}

fn is_signed(key: &[u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
    let key = VerifyingKey::from_bytes(key);
    let signature = Signature::from_bytes(signature);
    key.is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEXLOWER
            .decode(text.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    }

    /// BEP 44, test vectors, test 2 (mutable with salt).
    #[test]
    fn the_published_vector_with_salt() {
        let key = hex("77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548");
        let mut signature = hex(concat!(
            "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d",
            "df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08"
        ));
        let message = signed_bytes(b"foobar", 1, b"Hello World!");
        assert_eq!(message, b"4:salt6:foobar3:seqi1e1:v12:Hello World!");
        assert!(is_signed(&key, &message, &signature));
        signature[0] ^= 1;
        assert!(!is_signed(&key, &message, &signature));
        let channel: ChannelName = "foobar".parse().unwrap();
        let target = "411eba73b6f087ca51a3795d9c8c938d365e32c1";
        assert_eq!(channel.topic(&key).to_string(), target);
    }

    #[test]
    fn round_trip_and_refusals() {
        let key = SecretKey::generate("example-1").unwrap();
        let keys = [key.public()];
        let channel: ChannelName = "example".parse().unwrap();
        let pointer = Pointer::sign(&channel, 7, InfoHash::of(b"x"), &key).unwrap();
        let encoded = pointer.encode();
        assert_eq!(Pointer::parse(&encoded).as_ref(), Ok(&pointer));
        assert_eq!(pointer.verify(&channel, &keys, 7), Ok(()));

        let result = pointer.verify(&channel, &keys, 8);
        assert!(matches!(
            result,
            Err(PointerError::Rollback {
                found: 7,
                minimum: 8,
                ..
            })
        ));
        let other = "other".parse().unwrap();
        let result = pointer.verify(&other, &keys, 0);
        assert!(matches!(result, Err(PointerError::WrongChannel { .. })));
        let stranger = [SecretKey::generate("example-1").unwrap().public()];
        let result = pointer.verify(&channel, &stranger, 0);
        assert!(matches!(result, Err(PointerError::UnknownKey { .. })));
        assert!(Pointer::sign(&channel, 0, InfoHash::of(b"x"), &key).is_err());
        assert!(Pointer::sign(&channel, 1 << 63, InfoHash::of(b"x"), &key).is_err());
        assert!(matches!(
            Pointer::parse(&[b'd'; 2000]),
            Err(PointerError::Size(2000))
        ));
    }

    #[test]
    fn any_flipped_bit_is_refused() {
        let key = SecretKey::generate("example-1").unwrap();
        let channel = "example".parse().unwrap();
        let pointer = Pointer::sign(&channel, 7, InfoHash::of(b"x"), &key).unwrap();
        let mut encoded = pointer.encode();
        for bit in 0..encoded.len() * 8 {
            encoded[bit / 8] ^= 1 << (bit % 8);
            assert!(Pointer::parse(&encoded).is_err(), "bit {bit}");
            encoded[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
