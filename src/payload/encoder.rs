//! The one encoder: raw NAR bytes of a frame to a zstd frame, the same bytes on every machine.
//!
//! zstd promises the same output only for the same version and the same parameters, so every parameter is set here
//! by hand and the encoder id names them; `self_test` notices a zstd that a packager has swapped underneath us.
//! Parameters measured on real packages (`tests/show payload`): zstd's own level 3 sizes its tables for a 2 MiB
//! window; the same strategy with tables for a whole frame saves 3.5 % of the bytes at nine tenths of the speed.

use thiserror::Error;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, Strategy, compress_bound, get_error_name, version_string,
};

use crate::torrent::InfoHash;

use super::frames::FRAME_SIZE;

/// Stands in each manifest layer: rows of another encoder are not re-created by this program.
pub const ENCODER_ID: &str = "nar-zstd-1.5.7-dfast22-4m";
const ZSTD_VERSION: &str = "1.5.7";

/// A frame's window covers the whole frame: 2^22 = `FRAME_SIZE`.
const WINDOW_LOG: u32 = 22;
/// The long hash table has a quarter as many slots as the frame has bytes, within these bounds; the short one half of
/// that. Tables are cleared for every frame: with full-size ones small NARs take a third more time and are 0.2 %
/// smaller.
const HASH_LOG: std::ops::RangeInclusive<u32> = 12..=19;
const BYTES_PER_SLOT_LOG: u32 = 2;
const SEARCH_LOG: u32 = 1;
const MIN_MATCH: u32 = 5;
const TARGET_LENGTH: u32 = 0;

/// Prefixes of the self-test vector that are encoded.
const VECTOR_LENGTHS: [usize; 4] = [1, 3_000, 60_000, 300_000];
/// SHA-1 of their frames, fixed when the encoder id was.
const VECTOR_SHA1: &str = "ba6ffcc3b547fe68d5849b93605487e1793e5749";

#[derive(Debug, Error)]
pub enum EncoderError {
    #[error("zstd refused to {action}: {reason}")]
    Zstd {
        action: &'static str,
        reason: &'static str,
    },
    #[error(
        "this program is linked with zstd {found}, payloads need {ZSTD_VERSION}: rebuild without ZSTD_SYS_USE_PKG_CONFIG"
    )]
    Version { found: &'static str },
    #[error(
        "the linked zstd encodes the test vector to {found}, not to {VECTOR_SHA1}: it was patched or built with other defaults"
    )]
    Vector { found: InfoHash },
    #[error("a frame of {0} bytes decodes to another size than {1}")]
    FrameSize(usize, usize),
}

/// A reusable compression context with every parameter explicit.
pub struct Encoder {
    context: CCtx<'static>,
    /// A frame may need more room than it takes in the end: made here, copied out in its true size.
    frame: Vec<u8>,
}

impl Encoder {
    pub fn new() -> Result<Self, EncoderError> {
        let mut context = CCtx::create();
        let parameters = [
            CParameter::WindowLog(WINDOW_LOG),
            CParameter::SearchLog(SEARCH_LOG),
            CParameter::MinMatch(MIN_MATCH),
            CParameter::TargetLength(TARGET_LENGTH),
            CParameter::Strategy(Strategy::ZSTD_dfast),
            CParameter::EnableLongDistanceMatching(false),
            CParameter::ContentSizeFlag(true),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ];
        set(&mut context, &parameters)?;
        Ok(Self {
            context,
            frame: Vec::new(),
        })
    }

    /// Encodes one frame of at most `FRAME_SIZE` raw bytes. What it returns is overwritten by the next.
    pub fn encode(&mut self, raw: &[u8]) -> Result<&[u8], EncoderError> {
        let size_log = usize::BITS - raw.len().saturating_sub(1).leading_zeros();
        let hash_log = size_log
            .saturating_sub(BYTES_PER_SLOT_LOG)
            .clamp(*HASH_LOG.start(), *HASH_LOG.end());
        set(
            &mut self.context,
            &[
                CParameter::HashLog(hash_log),
                CParameter::ChainLog(hash_log - 1),
            ],
        )?;
        self.frame.clear();
        self.frame.reserve(compress_bound(raw.len()));
        self.context
            .compress2(&mut self.frame, raw)
            .map_err(|code| zstd_error("compress a frame", code))?;
        Ok(&self.frame)
    }
}

fn set(context: &mut CCtx<'static>, parameters: &[CParameter]) -> Result<(), EncoderError> {
    for parameter in parameters {
        let done = context.set_parameter(*parameter);
        done.map_err(|code| zstd_error("set a parameter", code))?;
    }
    Ok(())
}

/// Decodes one frame that must hold exactly `raw_len` bytes.
pub fn decode_frame(frame: &[u8], raw_len: usize) -> Result<Vec<u8>, EncoderError> {
    let mut raw = Vec::with_capacity(raw_len.min(FRAME_SIZE));
    let written = DCtx::create()
        .decompress(&mut raw, frame)
        .map_err(|code| zstd_error("decompress a frame", code))?;
    if written != raw_len {
        return Err(EncoderError::FrameSize(frame.len(), raw_len));
    }
    Ok(raw)
}

/// Checks that the linked zstd is the one that the encoder id names. On an error nothing may be re-created.
pub fn self_test() -> Result<(), EncoderError> {
    if version_string() != ZSTD_VERSION {
        return Err(EncoderError::Version {
            found: version_string(),
        });
    }
    // Of several sizes, because the tables depend on it.
    let (vector, mut encoder) = (test_vector(), Encoder::new()?);
    let mut frames = Vec::new();
    for len in VECTOR_LENGTHS {
        frames.extend_from_slice(encoder.encode(&vector[..len])?);
    }
    let found = InfoHash::of(&frames);
    if found.to_string() != VECTOR_SHA1 {
        return Err(EncoderError::Vector { found });
    }
    Ok(())
}

/// 300 kB that exercise literals, near and far matches and incompressible runs, from a fixed generator.
fn test_vector() -> Vec<u8> {
    const LEN: usize = 300_000;
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut vector = Vec::with_capacity(LEN + 64);
    while vector.len() < LEN {
        let word = next();
        let run = (word >> 32) as usize % 40 + 4;
        match word % 4 {
            0 => vector.extend(word.to_le_bytes()),
            1 => vector.extend(std::iter::repeat_n(b'a' + (word >> 8) as u8 % 20, run)),
            2 if vector.len() > run => {
                let from = (word >> 16) as usize % (vector.len() - run);
                vector.extend_from_within(from..from + run);
            }
            _ => vector.extend(b"/nix/store/".iter().chain(b"narswarm".iter())),
        }
    }
    vector.truncate(LEN);
    vector
}

fn zstd_error(action: &'static str, code: usize) -> EncoderError {
    EncoderError::Zstd {
        action,
        reason: get_error_name(code),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linked_zstd_is_the_canonical_one() {
        self_test().unwrap();
    }

    #[test]
    fn frames_round_trip_and_their_size_is_checked() {
        let raw = test_vector();
        let mut encoder = Encoder::new().unwrap();
        let frame = encoder.encode(&raw).unwrap();
        assert!(frame.len() < raw.len());
        assert_eq!(decode_frame(frame, raw.len()).unwrap(), raw);
        assert!(decode_frame(frame, raw.len() - 1).is_err());
        assert!(decode_frame(frame, raw.len() + 1).is_err());
        assert!(decode_frame(&frame[..frame.len() - 1], raw.len()).is_err());
        assert!(decode_frame(b"not zstd", 8).is_err());
    }

    #[test]
    fn one_context_gives_the_same_bytes_again() {
        let raw = test_vector();
        let mut encoder = Encoder::new().unwrap();
        let first = encoder.encode(&raw).unwrap().to_vec();
        encoder.encode(&raw[..1000]).unwrap();
        assert_eq!(encoder.encode(&raw).unwrap(), first);
    }
}
