//! A channel link (BEP 46): names a channel by its public key and salt, whatever its newest release is.
//!
//! ```text
//! magnet:?xs=urn:btpk:<64 hex digits: ed25519 public key>&s=<hex of the channel name>&x.pe=192.0.2.1:6881
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use super::TorrentError;
use super::link_parameters::LinkParameters;

/// BEP 44's limit on a salt.
const MAX_SALT: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelLink {
    pub key: [u8; 32],
    /// The channel name.
    pub salt: Vec<u8>,
    pub peers: Vec<SocketAddr>,
}

impl FromStr for ChannelLink {
    type Err = TorrentError;

    fn from_str(link: &str) -> Result<Self, TorrentError> {
        let parameters = LinkParameters::parse(link)?;
        let (name, wanted) = ("xs", "urn:btpk:<64 hex digits>");
        let missing = TorrentError::LinkMissing { name, wanted };
        let source = parameters.at_most_one(name)?.ok_or(missing)?;
        let key = source.strip_prefix("urn:btpk:").and_then(hex);
        let key = key.and_then(|key| key.try_into().ok());
        let key = key.ok_or_else(|| TorrentError::LinkValue {
            name,
            value: source.to_owned(),
            wanted,
        })?;
        let (name, wanted) = ("s", "the channel name as hex, 1 to 64 bytes");
        let missing = TorrentError::LinkMissing { name, wanted };
        let value = parameters.at_most_one(name)?.ok_or(missing)?;
        let salt = hex(value).filter(|salt| (1..=MAX_SALT).contains(&salt.len()));
        let salt = salt.ok_or_else(|| TorrentError::LinkValue {
            name,
            value: value.to_owned(),
            wanted,
        })?;
        Ok(Self {
            key,
            salt,
            peers: parameters.peers()?,
        })
    }
}

impl fmt::Display for ChannelLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (key, salt) = (HEXLOWER.encode(&self.key), HEXLOWER.encode(&self.salt));
        write!(f, "magnet:?xs=urn:btpk:{key}&s={salt}")?;
        self.peers
            .iter()
            .try_for_each(|peer| write!(f, "&x.pe={peer}"))
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading() {
        fn case(rest: &str, good: bool) {
            let link = format!("magnet:?{rest}");
            let found = link.parse::<ChannelLink>();
            assert_eq!(found.is_ok(), good, "{rest}: {found:?}");
            if let Ok(found) = found {
                assert_eq!(found.to_string(), link);
            }
        }
        // The key of BEP 46's own example.
        let key = "xs=urn:btpk:8543d3e6115f0f98c944077a4493dcd543e49c739fd998550a1f614ab36ed63e";
        case(&format!("{key}&s=6e"), true);
        case(
            &format!("{key}&s=6e&x.pe=192.0.2.1:6881&x.pe=[::1]:1"),
            true,
        );
        case(&format!("{key}&s={}", "6e".repeat(64)), true);
        case(&format!("{key}&s={}", "6e".repeat(65)), false);
        case(&format!("{key}&s="), false);
        case(&format!("{key}&s=6"), false);
        case(key, false);
        case(&format!("{}&s=6e", &key[..key.len() - 2]), false);
        case("s=6e", false);
        case(&format!("{key}&{key}&s=6e"), false);
        case(&format!("{key}&s=6e&x.pe=example.org:6881"), false);
    }
}
