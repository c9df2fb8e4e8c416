//! The client's side of an announce on an HTTP tracker (BEP 3, 7, 23): the query that it asks, the answer that it reads.
//!
//! ```text
//! ?info_hash=%01...&peer_id=...&port=6881&uploaded=0&downloaded=0&left=1&compact=1&key=2a&event=started
//! d8:intervali1800e5:peers6:......e                      compact: 6 bytes each, 18 in `peers6`
//! d8:intervali1800e5:peersld2:ip9:192.0.2.14:porti6881eeee
//! d14:failure reason6:closede
//! ```
//! Trackers are many and old: their keys need not be sorted, and what follows the answer does not matter.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use thiserror::Error;

use crate::torrent::InfoHash;
use crate::torrent::bencode::{BencodeError, Reader};

use super::compact_peers::CompactPeers;

/// Peers that are taken from one answer; trackers give 50 unless they are asked for more.
pub const MAX_PEERS: usize = 200;
/// What is shown of a tracker's own words.
const MAX_REASON: usize = 200;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Started,
    Stopped,
}

/// What a client says of itself.
#[derive(Debug, Clone)]
pub struct Query {
    pub info_hash: InfoHash,
    pub peer_id: [u8; 20],
    pub port: u16,
    /// By which the tracker knows it again at another address.
    pub key: u32,
}

impl Query {
    /// Nothing is counted, and something is always left: trackers give seeds no other seeds.
    pub fn text(&self, event: Option<Event>) -> String {
        let info_hash = percent_encode(self.info_hash.as_bytes(), NON_ALPHANUMERIC);
        let peer_id = percent_encode(&self.peer_id, NON_ALPHANUMERIC);
        let (port, key) = (self.port, self.key);
        let event = match event {
            None => "",
            Some(Event::Started) => "&event=started",
            Some(Event::Stopped) => "&event=stopped",
        };
        format!(
            "info_hash={info_hash}&peer_id={peer_id}&port={port}&uploaded=0&downloaded=0&left=1&compact=1&key={key:x}{event}"
        )
    }
}

#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum AnswerError {
    #[error("it refuses: {0:?}")]
    Refused(String),
    #[error("the answer names no interval")]
    NoInterval,
    #[error("the answer is none: {0}")]
    Bencode(#[from] BencodeError),
}

#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    /// How long the tracker wants to be left alone: whatever it says.
    pub interval: Duration,
    pub peers: Vec<SocketAddr>,
}

impl Answer {
    pub fn parse(body: &[u8]) -> Result<Self, AnswerError> {
        let mut reader = Reader::new(body);
        let (mut interval, mut least, mut peers) = (None, 0, Vec::new());
        let mut refusal = None;
        reader.open_dict()?;
        while !reader.at_close() {
            match reader.next_key(None)? {
                b"failure reason" => refusal = Some(reader.bytes(body.len())?),
                b"interval" => interval = Some(reader.unsigned(u64::MAX)?),
                b"min interval" => least = reader.unsigned(u64::MAX)?,
                b"peers" => read_peers(&mut reader, body.len(), &mut peers, CompactPeers::read_v4)?,
                b"peers6" => {
                    read_peers(&mut reader, body.len(), &mut peers, CompactPeers::read_v6)?
                }
                _ => reader.skip()?,
            }
        }
        reader.close()?;
        if let Some(reason) = refusal {
            let reason = &reason[..reason.len().min(MAX_REASON)];
            let reason = String::from_utf8_lossy(reason).into_owned();
            return Err(AnswerError::Refused(reason));
        }
        let interval = interval.ok_or(AnswerError::NoInterval)?.max(least);
        Ok(Self {
            interval: Duration::from_secs(interval),
            peers,
        })
    }
}

/// In compact form, or a dictionary each.
fn read_peers<'a, I: Iterator<Item = SocketAddr>>(
    reader: &mut Reader<'a>,
    max: usize,
    peers: &mut Vec<SocketAddr>,
    compact: impl Fn(&'a [u8]) -> I,
) -> Result<(), BencodeError> {
    let room = MAX_PEERS.saturating_sub(peers.len());
    if reader.open_list().is_err() {
        peers.extend(compact(reader.bytes(max)?).take(room));
        return Ok(());
    }
    while !reader.at_close() {
        let peer = read_peer(reader, max)?;
        if peers.len() < MAX_PEERS {
            peers.extend(peer);
        }
    }
    reader.close()
}

/// `None` where it is named by a name: nothing may need DNS.
fn read_peer(reader: &mut Reader<'_>, max: usize) -> Result<Option<SocketAddr>, BencodeError> {
    let (mut ip, mut port) = (None, None);
    reader.open_dict()?;
    while !reader.at_close() {
        match reader.next_key(None)? {
            b"ip" => {
                let text = std::str::from_utf8(reader.bytes(max)?).ok();
                ip = text.and_then(|text| text.parse::<IpAddr>().ok());
            }
            b"port" => port = u16::try_from(reader.unsigned(u64::MAX)?).ok(),
            _ => reader.skip()?,
        }
    }
    reader.close()?;
    Ok(ip.zip(port).map(SocketAddr::from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::swarm::protocol::announce;
    use proptest::prelude::*;

    #[test]
    fn answers_parse() {
        let case = |body: &[u8], interval: u64, peers: &[&str]| {
            let expected = Answer {
                interval: Duration::from_secs(interval),
                peers: peers.iter().map(|peer| peer.parse().unwrap()).collect(),
            };
            let text = String::from_utf8_lossy(body);
            assert_eq!(Answer::parse(body), Ok(expected), "{text}");
        };
        case(b"d8:intervali7ee", 7, &[]);
        case(
            b"d8:completei-1e8:intervali7e5:peers13:\x01\x02\x03\x04\0A\x05\x06\x07\x08\0B9e",
            7,
            &["1.2.3.4:65", "5.6.7.8:66"],
        );
        case(
            b"d8:intervali7e5:peers0:6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0Be",
            7,
            &["[::1]:66"],
        );
        case(
            b"d8:intervali7e5:peersld2:ip9:192.0.2.17:peer id2:xx4:porti65eed4:porti66e2:ip3:::1eee",
            7,
            &["192.0.2.1:65", "[::1]:66"],
        );
        // Neither names nor impossible ports.
        case(
            b"d8:intervali7e5:peersld2:ip4:host4:porti65eed2:ip3:::14:porti65536eedeee",
            7,
            &[],
        );
        // Not sorted, and with a rest.
        case(b"d5:peers0:12:min intervali9e8:intervali7ee\n", 9, &[]);
        case(
            b"d8:intervali18446744073709551615e5:peers0:e",
            u64::MAX,
            &[],
        );
        let ours = ["1.2.3.4:65".parse().unwrap(), "[::1]:66".parse().unwrap()];
        case(
            &announce::answer(60, &ours),
            60,
            &["1.2.3.4:65", "[::1]:66"],
        );
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        let case = |body: &[u8], expected: &str| {
            let error = Answer::parse(body).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        case(&announce::failure("closed\n"), r#"it refuses: "closed\n""#);
        case(b"d5:peers0:e", "no interval");
        case(b"d8:intervali7e5:peers6:\x01\x02\x03\x04\0", "cut off");
        case(b"d8:intervali7e5:peers6:\x01\x02\x03\x04\0A", "cut off");
        case(
            b"d8:intervali7e5:peersld2:ip9:192.0.2.14:porti65eee",
            "cut off",
        );
        case(
            b"d8:intervali7e5:peers99999999999999999999:e",
            "larger than",
        );
        case(b"d8:intervali-7ee", "not negative");
        case(b"<html>", "dictionary");
        case(b"", "cut off");
        let deep = [b"d1:a".as_slice(), &b"l".repeat(60_000)].concat();
        case(&deep, "levels deep");
    }

    #[test]
    fn few_peers_are_taken_and_few_words_shown() {
        let many = b"\x01\x02\x03\x04\0A".repeat(9_000);
        let compact = [b"d8:intervali7e5:peers54000:".as_slice(), &many, b"e"].concat();
        assert_eq!(Answer::parse(&compact).unwrap().peers.len(), MAX_PEERS);
        let many = b"d2:ip7:1.2.3.44:porti65ee".repeat(2_000);
        let head = b"d8:intervali7e6:peers618:\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0B5:peersl";
        let dicts = [head.as_slice(), &many, b"ee"].concat();
        assert_eq!(Answer::parse(&dicts).unwrap().peers.len(), MAX_PEERS);
        let failure = announce::failure(&"x".repeat(60_000));
        let expected = AnswerError::Refused("x".repeat(MAX_REASON));
        assert_eq!(Answer::parse(&failure), Err(expected));
    }

    #[test]
    fn our_trackers_read_the_query() {
        let query = Query {
            info_hash: InfoHash::from_bytes(*b"%abcdefghij&=lmnop\0\xff"),
            peer_id: *b"-NS0000-&=%456789012",
            port: 6881,
            key: 42,
        };
        for event in [None, Some(Event::Started), Some(Event::Stopped)] {
            let expected = announce::Announce {
                info_hash: query.info_hash,
                port: Some(6881),
                stopped: event == Some(Event::Stopped),
            };
            let text = query.text(event);
            assert_eq!(announce::Announce::parse(&text), Some(expected), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_none(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in "[dlie0-9:a]{0,80}") {
            let _ = Answer::parse(&bytes);
            for key in ["d5:peers", "d6:peers6", "d14:failure reason", "d8:interval"] {
                let _ = Answer::parse(format!("{key}{tail}").as_bytes());
            }
        }
    }
}
