//! The NAR inside a payload: a kept file, or a running download whose frames are decoded as their pieces arrive.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use tokio::time::timeout;

use crate::catalog::Entry;
use crate::payload::{FRAME_SIZE, FrameTable, decode_frame};
use crate::swarm::{Download, DownloadError, Downloads, Expected, Fetch, PartFile, Wanted};

use super::source::{Chunk, Position, STALL, SourceError, SourceStream};

/// For room in the cache others have to be done, and a large part file has to be read: a while, but this wait alone ends
/// within the 300 s after which Nix gives up.
const ROOM_WAIT: Duration = Duration::from_secs(240);
/// In a crowd a seeder serves others first, for longer than `STALL`. While this machine's other downloads get on, its turn
/// is waited for, so long at most.
const TURN_WAIT: Duration = ROOM_WAIT;

/// Where compressed bytes are read from.
#[derive(Clone)]
enum Payload {
    Kept(Arc<File>),
    Running(Arc<Download>),
}

/// Joins or starts the download of `entry` and streams its NAR.
pub async fn open(
    downloads: &Arc<Downloads>,
    entry: &Entry,
    position: Position,
) -> Result<SourceStream, SourceError> {
    let wanted = Wanted {
        info_hash: entry.info_hash,
        length: Expected::Exactly(entry.payload_length),
    };
    let info = within(STALL, downloads.info(wanted)).await?;
    let payload = find(downloads, wanted).await?;
    let frames = info.frames.as_deref().unwrap_or_default();
    let table = FrameTable::new(entry.nar_size, entry.payload_length, frames);
    let table = Arc::new(table.map_err(|error| SourceError::WrongPayload(error.to_string()))?);
    let downloads = downloads.clone();
    let stream = stream::unfold(Some((0, payload)), move |next| {
        let (downloads, table) = (downloads.clone(), table.clone());
        // Frames that another source gave meanwhile are not decoded.
        let wanted_frame = (position.get() / FRAME_SIZE as u64) as usize;
        async move {
            let (i, payload): (usize, Payload) = next?;
            let i = i.max(wanted_frame);
            if i >= table.len() {
                return None;
            }
            let made = match frame(&downloads, &payload, &table, i).await {
                Ok(bytes) => Ok((bytes, payload)),
                // Where the disk has spoilt it: its pieces have their hashes where they come from.
                Err(error)
                    if matches!(payload, Payload::Kept(_))
                        && downloads.discard_if_damaged(&wanted.info_hash).await =>
                {
                    tracing::debug!(%error, "a frame is made anew");
                    frame_anew(&downloads, wanted, &table, i).await
                }
                Err(error) => Err(error),
            };
            Some(match made {
                Ok((bytes, payload)) => {
                    let start = table.raw(i).start;
                    (Ok(Chunk { start, bytes }), Some((i + 1, payload)))
                }
                Err(error) => (Err(error), None),
            })
        }
    });
    Ok(stream.boxed())
}

/// The payload, once there is room for it and what is on disk of it was checked.
async fn find(downloads: &Arc<Downloads>, wanted: Wanted) -> Result<Payload, SourceError> {
    loop {
        match within(ROOM_WAIT, downloads.fetch(wanted)).await? {
            Fetch::Running(download) => return Ok(Payload::Running(download)),
            Fetch::Kept(path) => match File::open(path) {
                Ok(file) => return Ok(Payload::Kept(Arc::new(file))),
                // It had to make room for another one in this moment.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(SourceError::Payload(error.to_string())),
            },
        }
    }
}

async fn frame_anew(
    downloads: &Arc<Downloads>,
    wanted: Wanted,
    table: &Arc<FrameTable>,
    i: usize,
) -> Result<(Bytes, Payload), SourceError> {
    let payload = find(downloads, wanted).await?;
    Ok((frame(downloads, &payload, table, i).await?, payload))
}

async fn within<T>(
    time: Duration,
    work: impl Future<Output = Result<T, DownloadError>>,
) -> Result<T, SourceError> {
    let done = timeout(time, work).await;
    Ok(done.map_err(|_| SourceError::Stalled(time))??)
}

async fn frame(
    downloads: &Downloads,
    payload: &Payload,
    table: &Arc<FrameTable>,
    i: usize,
) -> Result<Bytes, SourceError> {
    if let Payload::Running(download) = payload {
        wait_for(downloads, download.part(), table, i).await?;
    }
    let (payload, table) = (payload.clone(), table.clone());
    let decoded = tokio::task::spawn_blocking(move || {
        let (compressed, raw) = (table.compressed(i), table.raw(i));
        let mut bytes = vec![0; (compressed.end - compressed.start) as usize];
        let read = match &payload {
            Payload::Kept(file) => file.read_exact_at(&mut bytes, compressed.start),
            Payload::Running(download) => {
                download.part().read_complete(compressed.start, &mut bytes)
            }
        };
        read.map_err(|error| SourceError::Payload(error.to_string()))?;
        let raw = decode_frame(&bytes, (raw.end - raw.start) as usize);
        raw.map(Bytes::from)
            .map_err(|error| SourceError::WrongPayload(error.to_string()))
    });
    decoded
        .await
        .map_err(|error| SourceError::Payload(error.to_string()))?
}

/// Waits for every piece of frame `i`; a download that makes no progress at all for too long is given up.
async fn wait_for(
    downloads: &Downloads,
    part: &PartFile,
    table: &FrameTable,
    i: usize,
) -> Result<(), SourceError> {
    let range = table.compressed(i);
    let piece_length = u64::from(part.info().piece_length);
    let mut progress = part.progress();
    for piece in range.start / piece_length..range.end.div_ceil(piece_length) {
        let mut waited = Duration::ZERO;
        loop {
            progress.borrow_and_update();
            if part.has(piece as u32) {
                break;
            }
            if let Some(reason) = part.failure() {
                return Err(SourceError::Payload(reason.to_owned()));
            }
            let others = || downloads.received_beside(&part.info_hash());
            let before = others();
            match timeout(STALL, progress.changed()).await {
                Ok(changed) => changed.map_err(|_| SourceError::Absent)?,
                Err(_) if others() != before && waited < TURN_WAIT => waited += STALL,
                Err(_) => return Err(SourceError::Stalled(STALL)),
            }
        }
    }
    Ok(())
}
