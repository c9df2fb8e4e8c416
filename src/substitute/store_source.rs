//! The NAR of an installed path, dumped by a blocking reader a few chunks ahead of its consumer.

use std::io::Read;
use std::path::PathBuf;

use bytes::BytesMut;
use futures_util::stream::{self, StreamExt};
use tokio::sync::mpsc;

use crate::store::{NarReader, scan};

use super::source::{Chunk, SourceError, SourceStream};

/// Large enough that a read is worth its system call, small enough to keep many streams in memory.
const CHUNK: usize = 256 * 1024;
/// Chunks read ahead per stream.
const AHEAD: usize = 2;

pub fn open(path: PathBuf) -> SourceStream {
    let (sender, receiver) = mpsc::channel(AHEAD);
    tokio::task::spawn_blocking(move || {
        let failed = |error: &dyn std::fmt::Display| Err(SourceError::Store(error.to_string()));
        let mut nar = match scan(&path) {
            Ok(layout) => NarReader::open(layout),
            Err(error) => {
                let _ = sender.blocking_send(failed(&error));
                return;
            }
        };
        let mut at = 0;
        loop {
            let mut chunk = BytesMut::zeroed(CHUNK);
            let item = match nar.read(&mut chunk) {
                Ok(0) => return,
                Ok(n) => {
                    chunk.truncate(n);
                    let (start, bytes) = (at, chunk.freeze());
                    at += n as u64;
                    Ok(Chunk { start, bytes })
                }
                Err(error) => failed(&error),
            };
            let ended = item.is_err();
            if sender.blocking_send(item).is_err() || ended {
                return;
            }
        }
    });
    stream::unfold(
        receiver,
        |mut receiver: mpsc::Receiver<Result<Chunk, SourceError>>| async move {
            receiver.recv().await.map(|item| (item, receiver))
        },
    )
    .boxed()
}
