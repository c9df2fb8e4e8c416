//! Re-creation: the frames of a payload made again from the NAR that is installed, any one without those before it.

use std::io;

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

/// Makes frame `i` again. Its size is checked here, its content by the piece hashes.
pub fn recreate_frame(
    source: &mut impl NarSource,
    table: &FrameTable,
    i: usize,
) -> Result<Vec<u8>, RecreateError> {
    let raw = table.raw(i);
    let mut bytes = vec![0; (raw.end - raw.start) as usize];
    source.read_exact_at(raw.start, &mut bytes)?;
    let frame = Encoder::new()?.encode(&bytes)?;
    let range = table.compressed(i);
    let expected = range.end - range.start;
    if frame.len() as u64 != expected {
        return Err(RecreateError::Changed {
            frame: i,
            expected,
            found: frame.len(),
        });
    }
    Ok(frame)
}
