//! A download on disk: the sparse payload, which pieces of it are verified, and who waits for the next one.
//!
//! `<info hash>.part` holds the bytes, `<info hash>.have` the indices of finished pieces, appended as u32 big-endian; it
//! comes with the first of several, so that a payload of one piece, as most are, needs a single file.
//! A crash can at worst lose the newest entries or name a piece whose bytes did not reach the disk; the check at the
//! next start hashes every piece that is named and forgets the rest.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use bytes::Bytes;
use sha1::{Digest, Sha1};
use tokio::sync::watch;

use crate::torrent::{Bitfield, InfoDict, InfoHash};

use super::cache_file::{CacheFile, have_path};

pub struct PartFile {
    info: Arc<InfoDict>,
    info_hash: InfoHash,
    directory: PathBuf,
    data: File,
    pieces: Mutex<Pieces>,
    /// How many pieces are complete; changes wake readers and seeders.
    progress: watch::Sender<u32>,
    /// Bytes that came in since it was opened, those of unfinished pieces included.
    received: AtomicU64,
    /// Why nothing can be written any more; set once, `progress` wakes those who wait.
    failure: OnceLock<String>,
}

struct Pieces {
    have: Bitfield,
    /// Pieces of which some bytes were written: librqbit reads them back to hash them.
    touched: Bitfield,
    log: Option<File>,
}

impl PartFile {
    /// Opens or creates the part in `directory` and checks what an earlier run left.
    pub fn open(directory: &Path, info: Arc<InfoDict>) -> io::Result<Self> {
        let info_hash = info.info_hash();
        let data = open(&part_path(directory, info_hash), true)?;
        let mut log = match open(&have_path(directory, info_hash), false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            log => Some(log?),
        };
        let mut have = Bitfield::new(info.piece_count());
        let named = match &mut log {
            Some(log) => read_log(log, info.piece_count())?,
            None if info.piece_count() == 1 => vec![0],
            None => vec![],
        };
        for piece in named {
            if !have.get(piece) && read_piece(&data, &info, piece).is_ok() {
                have.set(piece);
            }
        }
        data.set_len(info.length)?;
        let progress = watch::Sender::new(have.ones());
        let pieces = Mutex::new(Pieces {
            touched: have.clone(),
            have,
            log,
        });
        Ok(Self {
            info,
            info_hash,
            directory: directory.to_owned(),
            data,
            pieces,
            progress,
            received: AtomicU64::new(0),
            failure: OnceLock::new(),
        })
    }

    /// Whether all pieces of a finished payload have their hashes.
    pub fn is_whole(path: &Path, info: &InfoDict) -> io::Result<bool> {
        let file = File::open(path)?;
        let mut pieces = 0..info.piece_count();
        Ok(pieces.all(|piece| read_piece(&file, info, piece).is_ok()))
    }

    pub fn info(&self) -> &Arc<InfoDict> {
        &self.info
    }

    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    pub fn have(&self) -> Bitfield {
        self.lock().have.clone()
    }

    pub fn has(&self, piece: u32) -> bool {
        self.lock().have.get(piece)
    }

    pub fn is_complete(&self) -> bool {
        self.lock().have.is_full()
    }

    /// Wakes at every finished piece.
    pub fn progress(&self) -> watch::Receiver<u32> {
        self.progress.subscribe()
    }

    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Bytes of finished pieces.
    pub fn bytes_done(&self) -> u64 {
        let have = self.have();
        (0..self.info.piece_count())
            .filter(|i| have.get(*i))
            .map(|i| u64::from(self.info.piece_len(i)))
            .sum()
    }

    /// Why this download cannot go on: a full disk, mostly.
    pub fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Writes what a peer sent.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.try_write(offset, bytes)
            .inspect_err(|error| self.fail(error))
    }

    /// Nothing follows; whoever waits for a piece hears why.
    pub fn fail(&self, error: &impl ToString) {
        if self.failure.set(error.to_string()).is_ok() {
            self.progress.send_modify(|_| {});
        }
    }

    fn try_write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset + bytes.len() as u64 > self.info.length {
            return Err(io::Error::other("a write past the end of the payload"));
        }
        self.data.write_all_at(bytes, offset)?;
        self.received.fetch_add(bytes.len() as u64, Relaxed);
        let piece = (offset / u64::from(self.info.piece_length)) as u32;
        self.lock().touched.set(piece);
        Ok(())
    }

    /// Reads what was written; sparse holes are an error and not zeros.
    pub fn read_written(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let piece = (offset / u64::from(self.info.piece_length)) as u32;
        if !self.lock().touched.get(piece) {
            return Err(io::Error::other("this piece was not downloaded yet"));
        }
        self.data.read_exact_at(buffer, offset)
    }

    /// Reads payload bytes whose pieces are all complete.
    pub fn read_complete(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.data.read_exact_at(buffer, offset)
    }

    /// A finished piece, hashed again before it is handed out.
    pub fn piece(&self, piece: u32) -> io::Result<Bytes> {
        if !self.has(piece) {
            return Err(io::Error::other("this piece was not downloaded yet"));
        }
        read_piece(&self.data, &self.info, piece).map(Bytes::from)
    }

    /// Notes a piece whose bytes are written and whose hash was checked.
    pub fn completed(&self, piece: u32) -> io::Result<()> {
        let done = {
            let mut pieces = self.lock();
            pieces.touched.set(piece);
            if !pieces.have.set(piece) {
                return Ok(());
            }
            let logged = self.note(&mut pieces, piece);
            logged.map(|()| pieces.have.ones())
        };
        self.progress
            .send_replace(done.inspect_err(|error| self.fail(error))?);
        Ok(())
    }

    fn note(&self, pieces: &mut Pieces, piece: u32) -> io::Result<()> {
        let log = match &mut pieces.log {
            Some(log) => log,
            None if pieces.have.is_full() => return Ok(()),
            log => log.insert(open(&have_path(&self.directory, self.info_hash), true)?),
        };
        log.write_all(&piece.to_be_bytes())
    }

    /// Takes payload bytes that were made here. Pieces that end in them are complete when they have their hash; an error
    /// means that these bytes are not those of the payload, and no complete piece is touched by them.
    pub fn fill(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset + bytes.len() as u64;
        let piece_length = u64::from(self.info.piece_length);
        for piece in (offset / piece_length) as u32..end.div_ceil(piece_length) as u32 {
            if self.has(piece) {
                continue;
            }
            let range = self.info.piece_range(piece);
            let (from, to) = (range.start.max(offset), range.end.min(end));
            let bytes = &bytes[(from - offset) as usize..(to - offset) as usize];
            self.data.write_all_at(bytes, from)?;
            self.received.fetch_add(bytes.len() as u64, Relaxed);
            if range.end <= end {
                read_piece(&self.data, &self.info, piece)?;
                self.completed(piece)?;
            }
        }
        Ok(())
    }

    /// What the index of the pieces takes on disk at most.
    pub fn index_size(info: &InfoDict) -> u64 {
        u64::from(info.piece_count()) * 4
    }

    /// Turns a complete download into a payload file at `to`.
    pub fn keep(&self, to: &Path) -> io::Result<()> {
        self.data.sync_data()?;
        fs::rename(part_path(&self.directory, self.info_hash), to)?;
        match self.lock().log.take() {
            Some(_) => fs::remove_file(have_path(&self.directory, self.info_hash)),
            None => Ok(()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pieces> {
        self.pieces.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Where the bytes of a download are.
fn part_path(directory: &Path, info_hash: InfoHash) -> PathBuf {
    CacheFile::Part(info_hash).path(directory)
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .open(path)
}

/// The pieces named in a log; a torn last entry is cut off, so that later ones line up again.
fn read_log(log: &mut File, piece_count: u32) -> io::Result<Vec<u32>> {
    let mut bytes = Vec::new();
    // Each piece is named once; anything longer is damage.
    Read::by_ref(log)
        .take(u64::from(piece_count) * 4)
        .read_to_end(&mut bytes)?;
    let (entries, _) = bytes.as_chunks::<4>();
    log.set_len(entries.len() as u64 * 4)?;
    log.seek(SeekFrom::End(0))?;
    Ok(entries
        .iter()
        .map(|entry| u32::from_be_bytes(*entry))
        .filter(|piece| *piece < piece_count)
        .collect())
}

/// Reads one piece of a payload file and checks its SHA-1.
pub fn read_piece(data: &File, info: &InfoDict, piece: u32) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; info.piece_len(piece) as usize];
    data.read_exact_at(&mut bytes, info.piece_range(piece).start)?;
    if info.piece_hash(piece) != Some(&Sha1::digest(&bytes).into()) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("piece {piece} does not have its hash"),
        ));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<u8>, Arc<InfoDict>) {
        let bytes: Vec<u8> = (0..100_000u32).map(|i| (i / 3) as u8).collect();
        let piece_length = 32 * 1024;
        let pieces = bytes
            .chunks(piece_length)
            .map(|p| Sha1::digest(p).into())
            .collect();
        let info = InfoDict {
            name: "sample".into(),
            length: bytes.len() as u64,
            piece_length: piece_length as u32,
            pieces,
            frames: None,
        };
        (bytes, Arc::new(info))
    }

    #[test]
    fn pieces_survive_a_restart_and_damage_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let (bytes, info) = sample();
        {
            let part = PartFile::open(directory.path(), info.clone()).unwrap();
            let mut hole = [0; 10];
            assert!(
                part.read_written(0, &mut hole).is_err(),
                "holes are not zeros"
            );
            part.write(0, &bytes).unwrap();
            for piece in [3, 1, 0] {
                part.completed(piece).unwrap();
            }
            assert!(!part.is_complete() && part.piece(2).is_err());
            assert_eq!(part.piece(1).unwrap(), bytes[32768..65536]);
        }
        let info_hash = info.info_hash();
        // A torn entry at the end, and a piece whose bytes never reached the disk.
        OpenOptions::new()
            .append(true)
            .open(have_path(directory.path(), info_hash))
            .unwrap()
            .write_all(&[0, 0])
            .unwrap();
        open(&part_path(directory.path(), info_hash), false)
            .unwrap()
            .write_all_at(&[1; 100], 0)
            .unwrap();
        let part = PartFile::open(directory.path(), info.clone()).unwrap();
        assert_eq!(
            (part.has(0), part.has(1), part.has(2), part.has(3)),
            (false, true, false, true)
        );
        assert_eq!(part.bytes_done(), 32768 + 100_000 - 3 * 32768);
        part.write(0, &bytes).unwrap();
        part.completed(0).unwrap();
        part.completed(2).unwrap();
        let kept = directory.path().join("kept");
        part.keep(&kept).unwrap();
        assert_eq!(fs::read(kept).unwrap(), bytes);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_single_piece_needs_no_index() {
        let directory = tempfile::tempdir().unwrap();
        let (bytes, info) = sample();
        let info = InfoDict {
            piece_length: 128 * 1024,
            pieces: vec![Sha1::digest(&bytes).into()],
            ..InfoDict::clone(&info)
        };
        let part = PartFile::open(directory.path(), Arc::new(info)).unwrap();
        part.write(0, &bytes).unwrap();
        part.completed(0).unwrap();
        let files = || fs::read_dir(directory.path()).unwrap().count();
        assert!(part.is_complete() && files() == 1);
        let part = PartFile::open(directory.path(), part.info().clone()).unwrap();
        assert!(part.is_complete(), "a restart finds it");
        let kept = directory.path().join("kept");
        part.keep(&kept).unwrap();
        assert_eq!((fs::read(kept).unwrap(), files()), (bytes, 1));
    }

    #[test]
    fn payload_bytes_made_here_complete_what_a_download_left() {
        let directory = tempfile::tempdir().unwrap();
        let (bytes, info) = sample();
        let part = PartFile::open(directory.path(), info).unwrap();
        part.write(32768, &bytes[32768..65536]).unwrap();
        part.completed(1).unwrap();
        part.fill(0, &bytes[..40_000]).unwrap();
        assert_eq!(part.have().ones(), 2, "piece 0, and 1 was there");
        assert!(part.fill(40_000, &[7; 60_000]).is_err(), "not the payload");
        assert_eq!(part.piece(1).unwrap(), bytes[32768..65536]);
        assert_eq!(part.have().ones(), 2);
        part.fill(40_000, &bytes[40_000..]).unwrap();
        part.fill(0, &bytes).unwrap();
        assert!(part.is_complete());
    }
}
