//! The NAR of an installed path, dumped by a blocking reader a few chunks ahead of its consumer.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::nix::nar::Layout;
use crate::store::{NarReader, StoreError, read_cached, scan};

use super::buffers::{BUFFER, Buffers};
use super::source::{Chunk, SourceError, SourceStream};

/// Chunks read ahead per stream.
const AHEAD: usize = 2;

/// The path as it lies there now.
pub fn open(path: PathBuf, buffers: Arc<Buffers>) -> SourceStream {
    let (sender, receiver) = mpsc::channel(AHEAD);
    spawn_blocking(move || match scan(&path) {
        Ok(layout) => read_all(layout.into(), 0, &buffers, &sender),
        Err(error) => {
            let _ = sender.blocking_send(Err(failed(&error)));
        }
    });
    chunks(receiver)
}

/// A path whose layout is known, from byte `from` on.
pub fn resume(layout: Arc<Layout>, from: u64, buffers: Arc<Buffers>) -> SourceStream {
    if layout.size() - from <= BUFFER as u64 {
        return stream::once(async move {
            let bytes = read_small(layout, from, buffers).await?;
            Ok(Chunk { start: from, bytes })
        })
        .boxed();
    }
    let (sender, receiver) = mpsc::channel(AHEAD);
    spawn_blocking(move || read_all(layout, from, &buffers, &sender));
    chunks(receiver)
}

/// In this very thread where all of it is in memory: the way to another one and back takes longer than the reading.
async fn read_small(
    layout: Arc<Layout>,
    from: u64,
    buffers: Arc<Buffers>,
) -> Result<Bytes, SourceError> {
    if let Ok(bytes) = buffers.fill(|buffer| read_cached(&layout, from, buffer).ok_or(())) {
        return Ok(bytes);
    }
    let waiting = move || read(&mut NarReader::open(layout), from, &buffers);
    let bytes = spawn_blocking(waiting)
        .await
        .map_err(|error| failed(&error))?;
    bytes.map_err(|error| failed(&error))
}

fn read_all(
    layout: Arc<Layout>,
    from: u64,
    buffers: &Arc<Buffers>,
    sender: &mpsc::Sender<Result<Chunk, SourceError>>,
) {
    let size = layout.size();
    let mut nar = NarReader::open(layout);
    let mut start = from;
    while start < size {
        let bytes = read(&mut nar, start, buffers).map_err(|error| failed(&error));
        let ended = bytes.is_err();
        let next = start + bytes.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let chunk = bytes.map(|bytes| Chunk { start, bytes });
        if sender.blocking_send(chunk).is_err() || ended {
            return;
        }
        start = next;
    }
}

fn read(nar: &mut NarReader, from: u64, buffers: &Arc<Buffers>) -> Result<Bytes, StoreError> {
    buffers.fill(|buffer| nar.read_at(from, buffer))
}

fn failed(error: &dyn std::fmt::Display) -> SourceError {
    SourceError::Store(error.to_string())
}

fn chunks(receiver: mpsc::Receiver<Result<Chunk, SourceError>>) -> SourceStream {
    stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|item| (item, receiver))
    })
    .boxed()
}
