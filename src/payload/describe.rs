//! One pass over a NAR: its hash, its payload (handed on frame by frame) and the info dict that names it.

use std::io::{self, Read};

use sha1::{Digest as _, Sha1};
use sha2::Sha256;
use thiserror::Error;

use crate::manifest::payload_name;
use crate::nix::NarHash;
use crate::torrent::{InfoDict, piece_length};

use super::encoder::{Encoder, EncoderError};
use super::frames::FRAME_SIZE;

#[derive(Debug, Error)]
pub enum DescribeError {
    #[error("reading the NAR: {0}")]
    Read(io::Error),
    #[error("writing the payload: {0}")]
    Write(io::Error),
    #[error("the NAR has {found} bytes, {expected} were announced")]
    Size { expected: u64, found: u64 },
    #[error("the file is not made of zstd frames of at most {FRAME_SIZE} bytes")]
    NotFrames,
    #[error(transparent)]
    Encoder(#[from] EncoderError),
}

/// What one pass over a NAR tells.
#[derive(Debug, Clone)]
pub struct Described {
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub info: InfoDict,
}

/// Reads a whole NAR, gives each frame of its payload to `sink`, and describes it.
///
/// The size must be known beforehand, because the piece length follows from it.
pub fn describe(
    nar: &mut impl Read,
    expected: u64,
    mut sink: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<Described, DescribeError> {
    let mut encoder = Encoder::new()?;
    let mut nar_hash = Sha256::new();
    let mut nar_size = 0u64;
    let mut builder = PayloadBuilder::new(expected);
    let mut raw = Vec::new();
    loop {
        raw.clear();
        nar.by_ref()
            .take(FRAME_SIZE as u64)
            .read_to_end(&mut raw)
            .map_err(DescribeError::Read)?;
        if raw.is_empty() {
            break;
        }
        nar_hash.update(&raw);
        nar_size += raw.len() as u64;
        let frame = encoder.encode(&raw)?;
        builder.frame(frame);
        sink(frame).map_err(DescribeError::Write)?;
        if raw.len() < FRAME_SIZE || nar_size > expected {
            break;
        }
    }
    if nar_size != expected {
        return Err(DescribeError::Size {
            expected,
            found: nar_size,
        });
    }
    let nar_hash = NarHash::from_bytes(nar_hash.finalize().into());
    Ok(Described {
        nar_hash,
        nar_size,
        info: builder.finish(nar_hash),
    })
}

/// Describes a payload file that somebody else made: its pieces, and its frames as zstd delimits them.
pub fn describe_payload(
    mut payload: impl Read,
    name: String,
    nar_size: u64,
) -> Result<InfoDict, DescribeError> {
    let mut builder = PayloadBuilder::new(nar_size);
    let largest = zstd::zstd_safe::compress_bound(FRAME_SIZE);
    let mut buffer = Vec::with_capacity(largest);
    loop {
        payload
            .by_ref()
            .take((largest - buffer.len()) as u64)
            .read_to_end(&mut buffer)
            .map_err(DescribeError::Read)?;
        if buffer.is_empty() {
            break;
        }
        let size = zstd::zstd_safe::find_frame_compressed_size(&buffer)
            .map_err(|_| DescribeError::NotFrames)?;
        builder.frame(&buffer[..size]);
        buffer.drain(..size);
    }
    Ok(builder.named(name))
}

/// The info dict of a payload, from its frames as they are made.
pub struct PayloadBuilder {
    frames: Vec<u32>,
    pieces: Pieces,
}

impl PayloadBuilder {
    /// The size of the NAR must be known beforehand, because the piece length follows from it.
    pub fn new(nar_size: u64) -> Self {
        Self {
            frames: Vec::new(),
            pieces: Pieces::new(piece_length(nar_size)),
        }
    }

    /// The bytes that a payload takes at most.
    pub fn most(nar_size: u64) -> u64 {
        let frame = zstd::zstd_safe::compress_bound(FRAME_SIZE) as u64;
        let last = zstd::zstd_safe::compress_bound((nar_size % FRAME_SIZE as u64) as usize);
        nar_size / FRAME_SIZE as u64 * frame + last as u64
    }

    /// The next frame.
    pub fn frame(&mut self, frame: &[u8]) {
        self.frames.push(frame.len() as u32);
        self.pieces.update(frame);
    }

    pub fn finish(self, nar_hash: NarHash) -> InfoDict {
        self.named(payload_name(&nar_hash))
    }

    fn named(self, name: String) -> InfoDict {
        InfoDict {
            name,
            length: self.pieces.length,
            piece_length: self.pieces.piece_length as u32,
            pieces: self.pieces.finish(),
            frames: Some(self.frames),
        }
    }
}

/// SHA-1 of each piece, as the payload goes by.
struct Pieces {
    piece_length: u64,
    length: u64,
    hasher: Sha1,
    filled: u64,
    done: Vec<[u8; 20]>,
}

impl Pieces {
    fn new(piece_length: u32) -> Self {
        Self {
            piece_length: piece_length.into(),
            length: 0,
            hasher: Sha1::new(),
            filled: 0,
            done: Vec::new(),
        }
    }

    fn update(&mut self, mut bytes: &[u8]) {
        self.length += bytes.len() as u64;
        while !bytes.is_empty() {
            let take = (self.piece_length - self.filled).min(bytes.len() as u64) as usize;
            self.hasher.update(&bytes[..take]);
            self.filled += take as u64;
            bytes = &bytes[take..];
            if self.filled == self.piece_length {
                self.done.push(self.hasher.finalize_reset().into());
                self.filled = 0;
            }
        }
    }

    fn finish(mut self) -> Vec<[u8; 20]> {
        if self.filled > 0 {
            self.done.push(self.hasher.finalize().into());
        }
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::{FrameTable, decode_frame};

    fn nar(len: usize) -> Vec<u8> {
        (0..len as u32)
            .flat_map(|i| (i / 7).to_le_bytes())
            .take(len)
            .collect()
    }

    #[test]
    fn a_payload_is_described_and_decodes_to_the_nar() {
        for len in [
            1,
            1000,
            FRAME_SIZE - 1,
            FRAME_SIZE,
            FRAME_SIZE + 1,
            2 * FRAME_SIZE + 77,
        ] {
            let raw = nar(len);
            let mut payload = Vec::new();
            let described = describe(&mut &raw[..], len as u64, |frame| {
                payload.extend_from_slice(frame);
                Ok(())
            })
            .unwrap();
            assert_eq!(
                described.nar_hash,
                NarHash::from_bytes(Sha256::digest(&raw).into())
            );
            let info = &described.info;
            assert_eq!(info.length, payload.len() as u64);
            for (piece, hash) in payload.chunks(info.piece_length as usize).zip(&info.pieces) {
                assert_eq!(<[u8; 20]>::from(Sha1::digest(piece)), *hash);
            }
            let table =
                FrameTable::new(len as u64, info.length, info.frames.as_deref().unwrap()).unwrap();
            let decoded: Vec<u8> = (0..table.len())
                .flat_map(|i| {
                    let (at, raw) = (table.compressed(i), table.raw(i));
                    decode_frame(
                        &payload[at.start as usize..at.end as usize],
                        (raw.end - raw.start) as usize,
                    )
                    .unwrap()
                })
                .collect();
            assert_eq!(decoded, raw);
            assert_eq!(
                describe_payload(&payload[..], info.name.clone(), len as u64).unwrap(),
                *info
            );
        }
    }

    #[test]
    fn a_nar_of_another_size_is_refused() {
        let result = describe(&mut &nar(100)[..], 101, |_| Ok(()));
        assert!(matches!(
            result,
            Err(DescribeError::Size {
                expected: 101,
                found: 100
            })
        ));
    }
}
