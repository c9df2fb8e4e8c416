//! An info hash link (BEP 9): names one torrent, for us or for any stock client.
//!
//! ```text
//! magnet:?xt=urn:btih:<40 hex digits>&dn=<name>&xl=<length>&tr=<tracker>&x.pe=192.0.2.1:6881
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use data_encoding::BASE32;

use super::link_parameters::{LinkParameters, encode};
use super::{InfoHash, TorrentError};

/// Trackers that one link may name.
const MAX_TRACKERS: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Magnet {
    pub info_hash: InfoHash,
    pub name: Option<String>,
    pub length: Option<u64>,
    pub trackers: Vec<String>,
    pub peers: Vec<SocketAddr>,
}

impl FromStr for Magnet {
    type Err = TorrentError;

    fn from_str(link: &str) -> Result<Self, TorrentError> {
        let parameters = LinkParameters::parse(link)?;
        // A link for both kinds of torrent names a v2 hash (urn:btmh) as well.
        let mut hashes = parameters
            .all("xt")
            .filter_map(|topic| topic.strip_prefix("urn:btih:"));
        let hash = hashes.next().ok_or(TorrentError::LinkMissing {
            name: "xt",
            wanted: "urn:btih:<info hash>",
        })?;
        if hashes.next().is_some() {
            return Err(TorrentError::LinkRepeats { name: "xt", max: 1 });
        }
        let length = parameters.at_most_one("xl")?.map(|value| {
            let parsed = value.parse();
            parsed.map_err(|_| TorrentError::LinkValue {
                name: "xl",
                value: value.to_owned(),
                wanted: "a size in bytes",
            })
        });
        let trackers: Vec<_> = parameters.all("tr").map(str::to_owned).collect();
        if trackers.len() > MAX_TRACKERS {
            let max = MAX_TRACKERS;
            return Err(TorrentError::LinkRepeats { name: "tr", max });
        }
        Ok(Self {
            info_hash: info_hash(hash)?,
            name: parameters.at_most_one("dn")?.map(str::to_owned),
            length: length.transpose()?,
            trackers,
            peers: parameters.peers()?,
        })
    }
}

impl fmt::Display for Magnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "magnet:?xt=urn:btih:{}", self.info_hash)?;
        if let Some(name) = &self.name {
            write!(f, "&dn={}", encode(name))?;
        }
        if let Some(length) = self.length {
            write!(f, "&xl={length}")?;
        }
        for tracker in &self.trackers {
            write!(f, "&tr={}", encode(tracker))?;
        }
        // Not encoded: stock clients take the address as it stands.
        self.peers
            .iter()
            .try_for_each(|peer| write!(f, "&x.pe={peer}"))
    }
}

/// Hexadecimal, or the base32 of old links.
fn info_hash(text: &str) -> Result<InfoHash, TorrentError> {
    let base32 = BASE32.decode(text.to_ascii_uppercase().as_bytes()).ok();
    match base32.and_then(|bytes| bytes.try_into().ok()) {
        Some(bytes) => Ok(InfoHash::from_bytes(bytes)),
        None => text.parse(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    const HASH: &str = "da39a3ee5e6b4b0d3255bfef95601890afd80709";

    #[test]
    fn reading() {
        fn case(rest: &str, expected: Option<&str>) {
            let found = format!("magnet:?{rest}").parse::<Magnet>();
            let found = found.map(|magnet| magnet.to_string()[8..].to_owned());
            assert_eq!(found.as_deref().ok(), expected, "{rest}: {found:?}");
        }
        let full =
            format!("xt=urn:btih:{HASH}&dn=a%20b&xl=7&tr=udp%3A%2F%2F1.2.3.4%3A80&x.pe=[::1]:6881");
        let short = format!("xt=urn:btih:{HASH}");
        case(&full, Some(&full));
        case("xt=urn:btih:3I42H3S6NNFQ2MSVX7XZKYAYSCX5QBYJ", Some(&short));
        case(
            &format!("xt=urn:btmh:1220aa&{short}&ws=http://a"),
            Some(&short),
        );
        case("xt=urn:btih:da39", None);
        case("dn=x", None);
        case(&format!("{short}&{short}"), None);
        case(&format!("{short}&x.pe=host.example:1"), None);
        case(&format!("{short}&xl=-1"), None);
        case(&format!("{short}&dn=%zz"), None);
        assert!(
            format!("magnet:?{short}&dn={}", "a".repeat(9000))
                .parse::<Magnet>()
                .is_err()
        );
        assert!(format!("http://x/?{short}").parse::<Magnet>().is_err());
    }

    proptest! {
        #[test]
        fn round_trip(hash in any::<[u8; 20]>(), name in any::<Option<String>>(), length in any::<Option<u64>>(),
                      trackers in proptest::collection::vec(any::<String>(), 0..3), peers in proptest::collection::vec(any::<SocketAddr>(), 0..3)) {
            let magnet = Magnet { info_hash: InfoHash::from_bytes(hash), name, length, trackers, peers: peers.into_iter().map(plain).collect() };
            prop_assert_eq!(magnet.to_string().parse(), Ok(magnet));
        }

        #[test]
        fn never_panics(rest in any::<String>()) {
            let _ = format!("magnet:?{rest}").parse::<Magnet>();
        }
    }

    /// Flow labels are not part of an address's text.
    fn plain(address: SocketAddr) -> SocketAddr {
        SocketAddr::new(address.ip(), address.port())
    }
}
