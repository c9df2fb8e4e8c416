//! The NAR as an upstream has it: fetched from its start and decompressed, whatever offset is wanted.

use std::sync::Arc;

use futures_util::stream::{StreamExt, TryStreamExt};
use tokio_util::io::ReaderStream;

use crate::nix::{NarHash, Narinfo};
use crate::upstream::Upstream;

use super::source::{SourceError, SourceStream};

/// Bytes per item of the stream.
const CHUNK: usize = 64 * 1024;

pub async fn open(
    upstream: &Arc<Upstream>,
    narinfo: &Narinfo,
    wanted: &NarHash,
) -> Result<SourceStream, SourceError> {
    if narinfo.nar_hash != *wanted {
        return Err(SourceError::WrongNar);
    }
    let nar = upstream.nar(narinfo).await?.ok_or(SourceError::Absent)?;
    Ok(ReaderStream::with_capacity(nar, CHUNK)
        .map_err(SourceError::UpstreamBody)
        .boxed())
}
