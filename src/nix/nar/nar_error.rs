//! Why a NAR could not be planned or read.

use std::io;

use thiserror::Error;

#[derive(Debug, Error)]
pub enum NarError {
    #[error("read NAR at byte {offset}: {cause}")]
    Input { offset: u64, cause: io::Error },
    #[error("read NAR: it was cut at byte {offset}")]
    Cut { offset: u64 },
    #[error("read NAR at byte {offset}: {reason}")]
    Malformed { offset: u64, reason: &'static str },
    #[error("read NAR at byte {offset}: the name `{}` is refused: {reason}", .name.escape_ascii())]
    Name {
        offset: u64,
        name: Vec<u8>,
        reason: &'static str,
    },
    #[error("NAR has more than {limit} {what}")]
    TooMuch { what: &'static str, limit: u64 },
    #[error("unpack NAR at byte {offset}: {cause}")]
    Sink { offset: u64, cause: io::Error },
}
