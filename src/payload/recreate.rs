//! Re-creation: the frames of a payload made again from the NAR that is installed, any one without those before it.

use std::io;

use bytes::Bytes;
use thiserror::Error;

use super::encoder::{Encoder, EncoderError};
use super::frames::FrameTable;

/// Where the bytes of a NAR can be read at any offset.
pub trait NarSource {
    fn read_exact_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

#[derive(Debug, Error)]
pub enum RecreateError {
    #[error("reading the NAR: {0}")]
    Read(#[from] io::Error),
    #[error(transparent)]
    Encoder(#[from] EncoderError),
    #[error(
        "frame {frame} came out with {found} bytes instead of {expected}: the installed path has changed"
    )]
    Changed {
        frame: usize,
        expected: u64,
        found: usize,
    },
}

/// Makes frames; kept and used again, because its context and buffer are megabytes.
pub struct FrameMaker {
    encoder: Encoder,
    raw: Vec<u8>,
}

impl FrameMaker {
    pub fn new() -> Result<Self, EncoderError> {
        Ok(Self {
            encoder: Encoder::new()?,
            raw: Vec::new(),
        })
    }

    /// Makes frame `i` again. Its size is checked here, its content by the piece hashes.
    pub fn make(
        &mut self,
        source: &mut impl NarSource,
        table: &FrameTable,
        i: usize,
    ) -> Result<Bytes, RecreateError> {
        let raw = table.raw(i);
        self.raw.resize((raw.end - raw.start) as usize, 0);
        source.read_exact_at(raw.start, &mut self.raw)?;
        let frame = self.encoder.encode(&self.raw)?;
        let range = table.compressed(i);
        let expected = range.end - range.start;
        if frame.len() as u64 != expected {
            return Err(RecreateError::Changed {
                frame: i,
                expected,
                found: frame.len(),
            });
        }
        Ok(Bytes::copy_from_slice(frame))
    }
}
