//! The info dict of a one-file v1 torrent (BEP 3), with our `frames`.
//!
//! ```text
//! d6:frames8:<two u32, big-endian>6:lengthi150000e4:name60:<nixbase32 NarHash>.nar.zst12:piece lengthi262144e6:pieces20:<SHA-1>e
//! ```
//! `frames` are the compressed frame sizes of a payload, in order; stock clients ignore the key. Release files and
//! manifest layers have none. There is one encoding, and what decodes encodes to the same bytes.

use std::ops::Range;

use sha1::{Digest as _, Sha1};

use super::bencode::{Reader, Writer};
use super::{InfoHash, TorrentError, piece_length};

/// The longest info dict: that of a 1 TiB payload with 16 MiB pieces and 4 MiB frames has 2.4 MB.
pub const MAX_INFO_DICT: usize = 8 * 1024 * 1024;
/// The longest file: far above any NAR, far below where sums of sizes overflow.
pub const MAX_LENGTH: u64 = 1 << 40;
/// The longest `.torrent`: an info dict and some trackers.
pub(super) const MAX_METAINFO: usize = MAX_INFO_DICT + 64 * 1024;
/// What file systems take as one name.
const MAX_NAME: usize = 255;
/// A block (BEP 3): a piece cannot be smaller than what is asked for at a time.
const MIN_PIECE_LENGTH: u32 = 16 * 1024;
/// The largest that stock clients take.
const MAX_PIECE_LENGTH: u32 = 16 * 1024 * 1024;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InfoDict {
    pub name: String,
    pub length: u64,
    pub piece_length: u32,
    pub pieces: Vec<[u8; 20]>,
    pub frames: Option<Vec<u32>>,
}

impl InfoDict {
    /// Describes a whole file without frames, with the piece length of the rule.
    pub fn of_file(name: &str, content: &[u8]) -> Result<Self, TorrentError> {
        let piece_length = piece_length(content.len() as u64);
        let pieces = content.chunks(piece_length as usize);
        let info = Self {
            name: name.to_owned(),
            length: content.len() as u64,
            piece_length,
            pieces: pieces.map(|piece| Sha1::digest(piece).into()).collect(),
            frames: None,
        };
        info.check()?;
        Ok(info)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        if let Some(frames) = &self.frames {
            let frames: Vec<u8> = frames
                .iter()
                .flat_map(|frame| frame.to_be_bytes())
                .collect();
            out.bytes_at("frames", frames);
        }
        out.unsigned_at("length", self.length);
        out.bytes_at("name", &self.name);
        out.unsigned_at("piece length", self.piece_length.into());
        out.bytes_at("pieces", self.pieces.as_flattened());
        out.close();
        out.finish()
    }

    /// Takes exactly the bytes that `encode` would write for a consistent info dict.
    pub fn decode(input: &[u8]) -> Result<Self, TorrentError> {
        if input.len() > MAX_INFO_DICT {
            return Err(TorrentError::InfoDictSize(input.len()));
        }
        let reading = TorrentError::reading("info dict");
        let mut reader = Reader::new(input);
        reader.open_dict().map_err(&reading)?;
        let frames = match reader.optional_key("frames").map_err(&reading)? {
            true => Some(frames(reader.bytes(MAX_INFO_DICT).map_err(&reading)?)?),
            false => None,
        };
        reader.key("length").map_err(&reading)?;
        let length = reader.unsigned(u64::MAX).map_err(&reading)?;
        reader.key("name").map_err(&reading)?;
        let name = reader.text(MAX_NAME).map_err(&reading)?.to_owned();
        reader.key("piece length").map_err(&reading)?;
        let found = reader.unsigned(u64::MAX).map_err(&reading)?;
        let piece_length = u32::try_from(found).map_err(|_| TorrentError::PieceLength(found))?;
        reader.key("pieces").map_err(&reading)?;
        let pieces = pieces(reader.bytes(MAX_INFO_DICT).map_err(&reading)?)?;
        reader.close().map_err(&reading)?;
        reader.finish().map_err(&reading)?;
        let info = Self {
            name,
            length,
            piece_length,
            pieces,
            frames,
        };
        info.check()?;
        Ok(info)
    }

    pub fn info_hash(&self) -> InfoHash {
        InfoHash::of(&self.encode())
    }

    pub fn piece_count(&self) -> u32 {
        self.pieces.len() as u32
    }

    /// The size of piece `index`: only the last may be shorter. Zero past the end.
    pub fn piece_len(&self, index: u32) -> u32 {
        let range = self.piece_range(index);
        (range.end - range.start) as u32
    }

    pub fn piece_hash(&self, index: u32) -> Option<&[u8; 20]> {
        self.pieces.get(index as usize)
    }

    /// Where piece `index` lies in the file. Empty past the end.
    pub fn piece_range(&self, index: u32) -> Range<u64> {
        let start = u64::from(index) * u64::from(self.piece_length);
        let end = start + u64::from(self.piece_length);
        start.min(self.length)..end.min(self.length)
    }

    fn check(&self) -> Result<(), TorrentError> {
        check_name(&self.name)?;
        if self.length == 0 || self.length > MAX_LENGTH {
            return Err(TorrentError::Length(self.length));
        }
        let allowed = MIN_PIECE_LENGTH..=MAX_PIECE_LENGTH;
        if !allowed.contains(&self.piece_length) || !self.piece_length.is_power_of_two() {
            return Err(TorrentError::PieceLength(self.piece_length.into()));
        }
        let expected = self.length.div_ceil(self.piece_length.into());
        let found = self.pieces.len() as u64;
        if found != expected {
            return Err(TorrentError::PieceCount { found, expected });
        }
        let Some(frames) = &self.frames else {
            return Ok(());
        };
        if let Some(empty) = frames.iter().position(|frame| *frame == 0) {
            return Err(TorrentError::EmptyFrame(empty));
        }
        let found = frames.iter().copied().map(u64::from).sum();
        if found != self.length {
            let expected = self.length;
            return Err(TorrentError::FrameSum { found, expected });
        }
        Ok(())
    }
}

/// A name becomes a file name in any client that fetches the torrent.
fn check_name(name: &str) -> Result<(), TorrentError> {
    let reason = if name.is_empty() || name.len() > MAX_NAME {
        "is not of 1 to 255 bytes"
    } else if name == "." || name == ".." {
        "is not a file name"
    } else if name.contains(['/', '\\']) || name.contains(char::is_control) {
        "has a slash, a backslash or a control character"
    } else {
        return Ok(());
    };
    Err(TorrentError::Name {
        name: name.chars().take(MAX_NAME).collect(),
        reason,
    })
}

fn frames(packed: &[u8]) -> Result<Vec<u32>, TorrentError> {
    let (frames, rest) = packed.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(TorrentError::FrameBytes(packed.len()));
    }
    Ok(frames
        .iter()
        .map(|frame| u32::from_be_bytes(*frame))
        .collect())
}

fn pieces(packed: &[u8]) -> Result<Vec<[u8; 20]>, TorrentError> {
    let (pieces, rest) = packed.as_chunks::<20>();
    if !rest.is_empty() {
        return Err(TorrentError::PieceBytes(packed.len()));
    }
    Ok(pieces.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    fn sample() -> InfoDict {
        InfoDict {
            name: "x.nar.zst".to_owned(),
            length: 300_000,
            piece_length: 262_144,
            pieces: vec![[1; 20], [2; 20]],
            frames: Some(vec![200_000, 100_000]),
        }
    }

    #[test]
    fn encoding_is_the_documented_one() {
        let mut expected = b"d6:frames8:\x00\x03\x0d\x40\x00\x01\x86\xa06:lengthi300000e".to_vec();
        expected.extend(b"4:name9:x.nar.zst12:piece lengthi262144e6:pieces40:");
        expected.extend([1; 20].into_iter().chain([2; 20]).chain(*b"e"));
        assert_eq!(sample().encode(), expected);
        assert_eq!(InfoDict::decode(&expected), Ok(sample()));
    }

    #[test]
    fn pieces_cover_the_file() {
        let info = sample();
        assert_eq!(info.piece_range(0), 0..262_144);
        assert_eq!(info.piece_range(1), 262_144..300_000);
        assert_eq!(info.piece_len(1), 37_856);
        assert_eq!(info.piece_len(2), 0);
        assert_eq!(info.piece_hash(1), Some(&[2; 20]));
        assert_eq!(info.piece_hash(2), None);
        let file = InfoDict::of_file("a", &[7; 262_145]).unwrap();
        assert_eq!(file.piece_hash(1), Some(&Sha1::digest([7]).into()));
    }

    #[test]
    fn inconsistent_ones_are_refused() {
        fn case(change: impl Fn(&mut InfoDict), expected: TorrentError) {
            let mut info = sample();
            change(&mut info);
            assert_eq!(InfoDict::decode(&info.encode()), Err(expected));
        }
        let (found, expected) = (2, 3);
        case(
            |i| i.length = 600_000,
            TorrentError::PieceCount { found, expected },
        );
        case(|i| i.length = 0, TorrentError::Length(0));
        case(|i| i.length = u64::MAX, TorrentError::Length(u64::MAX));
        case(|i| i.piece_length = 0, TorrentError::PieceLength(0));
        case(|i| i.piece_length = 8192, TorrentError::PieceLength(8192));
        case(
            |i| i.piece_length = 1 << 25,
            TorrentError::PieceLength(1 << 25),
        );
        case(
            |i| i.piece_length = 262_145,
            TorrentError::PieceLength(262_145),
        );
        case(
            |i| i.frames = Some(vec![300_000, 0]),
            TorrentError::EmptyFrame(1),
        );
        let (found, expected) = (7, 300_000);
        case(
            |i| i.frames = Some(vec![7]),
            TorrentError::FrameSum { found, expected },
        );
        for name in ["", "..", "a/b", "a\\b", "a\nb"] {
            let result = InfoDict::of_file(name, b"content");
            assert!(matches!(result, Err(TorrentError::Name { .. })), "{name:?}");
        }
        assert_eq!(
            InfoDict::of_file("empty", b""),
            Err(TorrentError::Length(0))
        );
        let long = vec![b'd'; MAX_INFO_DICT + 1];
        assert_eq!(
            InfoDict::decode(&long),
            Err(TorrentError::InfoDictSize(long.len()))
        );
    }

    #[test]
    fn other_encodings_are_refused() {
        fn case(from: &str, to: &str) {
            let info = InfoDict::of_file("a", b"content").unwrap().encode();
            let info = String::from_utf8_lossy(&info[..info.len() - 21]).into_owned();
            assert!(info.contains(from), "{info} has no {from}");
            let mut other = info.replace(from, to).into_bytes();
            other.extend([0; 20]);
            other.push(b'e');
            assert!(InfoDict::decode(&other).is_err(), "{to}");
        }
        case("i7e", "i07e");
        case("i7e", "i+7e");
        case("1:a", "01:a");
        case("6:lengthi7e4:name1:a", "4:name1:a6:lengthi7e");
        case("6:lengthi7e", "6:lengthi7e6:lengthi7e");
        case("12:piece length", "7:md5sum 0:12:piece length");
        case("6:pieces20:", "6:pieces9999999999:");
        case("6:pieces20:", "6:pieces19:");
        case("6:length", "6:frames3:abc6:length");
        case("6:length", "6:frames0:6:length");
    }

    proptest! {
        #[test]
        fn round_trip(frames in proptest::collection::vec(1u32..1_000_000, 1..40), shift in 14u32..25) {
            let length = frames.iter().copied().map(u64::from).sum::<u64>();
            let piece_length = 1 << shift;
            let count = length.div_ceil(piece_length.into());
            let pieces = (0..count).map(|i| [i as u8; 20]).collect();
            let info = InfoDict { name: "n".into(), length, piece_length, pieces, frames: Some(frames) };
            prop_assert_eq!(InfoDict::decode(&info.encode()), Ok(info));
        }

        #[test]
        fn what_decodes_encodes_the_same(at in 0usize..120, byte in any::<u8>()) {
            let mut input = sample().encode();
            let at = at % input.len();
            input[at] = byte;
            if let Ok(info) = InfoDict::decode(&input) {
                prop_assert_eq!(info.encode(), input);
            }
        }

        #[test]
        fn never_panics(input in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = InfoDict::decode(&input);
        }
    }
}
