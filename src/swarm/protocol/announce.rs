//! What goes between a client and an HTTP tracker (BEP 3): the announce in a query, and the answer with compact peers.

use std::net::SocketAddr;

use serde::Serialize;

use crate::torrent::InfoHash;

use super::compact_peers::CompactPeers;

/// The part of an announce that our two trackers look at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announce {
    pub info_hash: InfoHash,
    /// Where the client is reached.
    pub port: Option<u16>,
    /// The client leaves.
    pub stopped: bool,
}

impl Announce {
    pub fn parse(query: &str) -> Option<Self> {
        let value = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
        };
        let bytes: Vec<u8> = percent_encoding::percent_decode_str(value("info_hash")?).collect();
        Some(Self {
            info_hash: InfoHash::from_bytes(bytes.try_into().ok()?),
            port: value("port").and_then(|port| port.parse().ok()),
            stopped: value("event") == Some("stopped"),
        })
    }
}

/// Peers, and how many seconds to wait before the next announce.
pub fn answer(interval: u64, peers: &[SocketAddr]) -> Vec<u8> {
    #[derive(Serialize)]
    struct Answer {
        interval: u64,
        #[serde(with = "serde_bytes")]
        peers: Vec<u8>,
        #[serde(with = "serde_bytes")]
        peers6: Vec<u8>,
    }
    let compact = CompactPeers::of(peers);
    let answer = Answer {
        interval,
        peers: compact.v4,
        peers6: compact.v6,
    };
    serde_bencode::to_bytes(&answer).unwrap_or_else(|_| b"d8:intervali60ee".to_vec())
}

pub fn failure(reason: &str) -> Vec<u8> {
    format!("d14:failure reason{}:{reason}e", reason.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn announces_parse() {
        let hash = InfoHash::from_bytes(*b"%abcdefghij&=lmnop\0\xff");
        let case = |query: &str, expected: Option<(Option<u16>, bool)>| {
            let expected = expected.map(|(port, stopped)| Announce {
                info_hash: hash,
                port,
                stopped,
            });
            assert_eq!(Announce::parse(query), expected, "{query}");
        };
        let encoded = "info_hash=%25abcdefghij%26%3dlmnop%00%FF";
        case(encoded, Some((None, false)));
        case(
            &format!("port=6881&{encoded}&event=stopped"),
            Some((Some(6881), true)),
        );
        case(&format!("{encoded}&port=70000"), Some((None, false)));
        case("info_hash=abc&port=1", None);
        case("", None);
    }

    #[test]
    fn answers_are_bencode() {
        let peers = ["1.2.3.4:65".parse().unwrap(), "[::1]:66".parse().unwrap()];
        assert_eq!(
            answer(7, &peers),
            b"d8:intervali7e5:peers6:\x01\x02\x03\x04\0A6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0Be"
        );
        assert_eq!(failure("no"), b"d14:failure reason2:noe");
    }

    proptest! {
        #[test]
        fn any_query_is_an_announce_or_none(query in any::<String>(), hash in "[%0-9a-f&=]{0,60}", port in any::<u32>()) {
            let _ = Announce::parse(&query);
            let _ = Announce::parse(&format!("info_hash={hash}&port={port}&event={query}"));
        }
    }
}
