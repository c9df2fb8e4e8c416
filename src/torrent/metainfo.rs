//! A `.torrent` file (BEP 3, BEP 12): an info dict and trackers.
//!
//! ```text
//! d8:announce<first tracker>13:announce-listl<tiers of trackers>e4:info<info dict>e
//! ```
//! Other keys of the outer dictionary are stepped over, so that a file another tool has touched still works. The info
//! dict is taken by `InfoDict`'s rules: it encodes to the bytes that stood there, or it is refused.

use super::bencode::{BencodeError, Reader, Writer};
use super::info_dict::MAX_METAINFO;
use super::{InfoDict, TorrentError};

/// Trackers that a file may name: more than any real one, few enough to announce to.
const MAX_TRACKERS: usize = 64;
/// As long as a URL reasonably is.
const MAX_TRACKER_LEN: usize = 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metainfo {
    pub info: InfoDict,
    /// One tier (BEP 12), the first one in `announce` too.
    pub trackers: Vec<String>,
}

impl Metainfo {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        if let [first, rest @ ..] = &self.trackers[..] {
            out.bytes_at("announce", first);
            if !rest.is_empty() {
                out.bytes("announce-list");
                out.open_list();
                out.open_list();
                self.trackers.iter().for_each(|tracker| out.bytes(tracker));
                out.close();
                out.close();
            }
        }
        out.bytes("info");
        out.raw(&self.info.encode());
        out.close();
        out.finish()
    }

    pub fn decode(input: &[u8]) -> Result<Self, TorrentError> {
        if input.len() > MAX_METAINFO {
            return Err(TorrentError::MetainfoSize(input.len()));
        }
        let reading = TorrentError::reading("torrent file");
        let mut reader = Reader::new(input);
        let (mut info, mut trackers) = (None, Vec::new());
        let mut previous = None;
        reader.open_dict().map_err(&reading)?;
        while !reader.at_close() {
            let key = reader.next_key(previous).map_err(&reading)?;
            match key {
                b"announce" => trackers.push(tracker(&mut reader).map_err(&reading)?),
                b"announce-list" => {
                    let tiers =
                        reader.list(MAX_TRACKERS, |reader| reader.list(MAX_TRACKERS, tracker));
                    for tracker in tiers.map_err(&reading)?.into_iter().flatten() {
                        if !trackers.contains(&tracker) && trackers.len() < MAX_TRACKERS {
                            trackers.push(tracker);
                        }
                    }
                }
                b"info" => {
                    let start = reader.position();
                    reader.skip().map_err(&reading)?;
                    info = Some(InfoDict::decode(reader.since(start))?);
                }
                _ => reader.skip().map_err(&reading)?,
            }
            previous = Some(key);
        }
        reader.close().map_err(&reading)?;
        reader.finish().map_err(&reading)?;
        let info = info.ok_or(TorrentError::NoInfoDict)?;
        Ok(Self { info, trackers })
    }
}

fn tracker(reader: &mut Reader<'_>) -> Result<String, BencodeError> {
    reader.text(MAX_TRACKER_LEN).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, proptest};

    fn info() -> InfoDict {
        InfoDict::of_file("a", b"content").unwrap()
    }

    #[test]
    fn round_trip() {
        fn case(trackers: &[&str]) {
            let trackers = trackers.iter().copied().map(str::to_owned).collect();
            let metainfo = Metainfo {
                info: info(),
                trackers,
            };
            assert_eq!(Metainfo::decode(&metainfo.encode()), Ok(metainfo));
        }
        case(&[]);
        case(&["http://127.0.0.1:6969/announce"]);
        case(&["http://127.0.0.1:6969/announce", "udp://[::1]:6969"]);
    }

    #[test]
    fn keys_of_other_tools_are_stepped_over() {
        let mut input = b"d7:comment2:hi13:creation datei1700000000e4:info".to_vec();
        input.extend(info().encode());
        input.extend(b"8:url-listl5:http:ee");
        let found = Metainfo::decode(&input).unwrap();
        assert_eq!(found.info, info());
        assert!(found.trackers.is_empty());
    }

    #[test]
    fn refusals() {
        fn case(input: &[u8], expected: TorrentError) {
            assert_eq!(Metainfo::decode(input), Err(expected));
        }
        case(b"de", TorrentError::NoInfoDict);
        case(
            &vec![b'd'; MAX_METAINFO + 1],
            TorrentError::MetainfoSize(MAX_METAINFO + 1),
        );
        let part = "torrent file";
        let source = BencodeError::Trailing { len: 1 };
        case(b"de ", TorrentError::Bencode { part, source });
        let (at, found) = (10, "a".to_owned());
        let source = BencodeError::Order { at, found };
        case(b"d1:b4:foo 1:a1:xe", TorrentError::Bencode { part, source });
    }

    proptest! {
        #[test]
        fn never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
            let mut input = Metainfo { info: info(), trackers: vec!["http://1.2.3.4/".into()] }.encode();
            let at = at.index(input.len());
            input[at] = byte;
            let _ = Metainfo::decode(&input);
        }
    }
}
