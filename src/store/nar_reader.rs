//! Reads a planned NAR at any offset, taking the bytes of files from disk as they are needed.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::StoreError;
use crate::nix::nar::Layout;

/// Holds at most one open file: the one that it will most likely go on with.
#[derive(Debug)]
pub struct NarReader {
    layout: Arc<Layout>,
    position: u64,
    open: Option<OpenFile>,
}

#[derive(Debug)]
struct OpenFile {
    index: usize,
    path: PathBuf,
    handle: File,
}

impl NarReader {
    /// Opens no file yet.
    pub fn open(layout: impl Into<Arc<Layout>>) -> Self {
        Self {
            layout: layout.into(),
            position: 0,
            open: None,
        }
    }

    /// Fills the buffer from this offset of the NAR on; only at its end less is read.
    pub fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize, StoreError> {
        let layout = Arc::clone(&self.layout);
        layout.fill(offset, buffer, |file, offset, length, rest| {
            self.read_file(&layout, file, offset, &mut rest[..length])
        })
    }

    fn read_file(
        &mut self,
        layout: &Layout,
        index: usize,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<(), StoreError> {
        let planned = layout.file_size(index);
        let (open, known) = match self.open.take() {
            Some(open) if open.index == index => (open, true),
            _ => (open_file(index, layout.file_path(index), planned)?, false),
        };
        let read = open.handle.read_exact_at(buffer, offset);
        let at_end = offset + buffer.len() as u64 == planned;
        // One that was opened for this read alone was looked at a moment ago.
        if (at_end && known) || read.is_err() {
            let metadata = open.handle.metadata();
            let actual = metadata
                .map_err(StoreError::io("look at", &open.path))?
                .len();
            check_size(&open.path, planned, actual)?;
        }
        read.map_err(StoreError::io("read", &open.path))?;
        if !at_end {
            self.open = Some(open);
        }
        Ok(())
    }
}

/// Symlinks are not followed, and a pipe would not be waited for. One look at the path: small files are many.
fn open_file(index: usize, path: PathBuf, planned: u64) -> Result<OpenFile, StoreError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let no_file = |path| StoreError::Unfit {
        path,
        reason: "it is no longer a file",
    };
    let handle = match rustix::fs::open(&path, flags, Mode::empty()) {
        Ok(handle) => File::from(handle),
        Err(Errno::LOOP) => return Err(no_file(path)),
        Err(error) => return Err(StoreError::io("open", &path)(error.into())),
    };
    let metadata = handle
        .metadata()
        .map_err(StoreError::io("look at", &path))?;
    if !metadata.is_file() {
        return Err(no_file(path));
    }
    check_size(&path, planned, metadata.len())?;
    Ok(OpenFile {
        index,
        path,
        handle,
    })
}

fn check_size(path: &std::path::Path, planned: u64, actual: u64) -> Result<(), StoreError> {
    if planned != actual {
        return Err(StoreError::Resized {
            path: path.to_owned(),
            planned,
            actual,
        });
    }
    Ok(())
}

impl Read for NarReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self
            .read_at(self.position, buffer)
            .map_err(io::Error::other)?;
        self.position += length as u64;
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, path::Path};

    use super::*;
    use crate::store::scan;

    const LARGE: usize = 300_000;

    fn tree(dir: &Path) -> PathBuf {
        let root = dir.join("tree");
        fs::create_dir_all(root.join("sub/deeper")).unwrap();
        fs::write(root.join("a"), "aaa").unwrap();
        fs::write(root.join("empty"), "").unwrap();
        let large: Vec<u8> = (0..LARGE).map(|i| (i % 251) as u8).collect();
        fs::write(root.join("sub/large"), large).unwrap();
        fs::write(root.join("sub/deeper/z"), "zzzzzzzz").unwrap();
        symlink("a", root.join("link")).unwrap();
        root
    }

    #[test]
    fn any_offset_gives_the_same_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Arc::new(scan(&tree(dir.path())).unwrap());
        let mut whole = Vec::new();
        NarReader::open(Arc::clone(&layout))
            .read_to_end(&mut whole)
            .unwrap();
        assert_eq!(whole.len() as u64, layout.size());
        let mut reader = NarReader::open(layout);
        for length in [1, 7, 4096, 250_000] {
            for at in (0..whole.len() + 10).step_by(999) {
                let mut buffer = vec![0; length];
                let read = reader.read_at(at as u64, &mut buffer).unwrap();
                let expected = &whole[at.min(whole.len())..(at + length).min(whole.len())];
                assert_eq!(&buffer[..read], expected, "{length} at {at}");
            }
        }
        assert_eq!(reader.read_at(u64::MAX, &mut [0; 9]).unwrap(), 0);
    }

    #[test]
    fn a_changed_file_is_an_error_that_names_it() {
        #[track_caller]
        fn case(change: fn(&Path), expected: &str) {
            let dir = tempfile::tempdir().unwrap();
            let root = tree(dir.path());
            let layout = scan(&root).unwrap();
            change(&root);
            let mut bytes = Vec::new();
            let error = NarReader::open(layout).read_to_end(&mut bytes).unwrap_err();
            let error = error.to_string();
            assert!(error.contains(expected), "{error}");
        }
        case(
            |root| fs::remove_file(root.join("a")).unwrap(),
            "tree/a: No such file",
        );
        case(
            |root| fs::write(root.join("a"), "aa").unwrap(),
            "tree/a: it has 2 bytes where 3",
        );
        case(
            |root| fs::write(root.join("a"), "aaaa").unwrap(),
            "tree/a: it has 4 bytes where 3",
        );
        case(
            |root| fs::remove_dir_all(root.join("sub")).unwrap(),
            "No such file",
        );
        case(
            |root| {
                fs::remove_file(root.join("a")).unwrap();
                symlink("empty", root.join("a")).unwrap();
            },
            "tree/a: it is no longer a file",
        );
    }

    #[test]
    fn a_file_that_changes_while_it_is_open_is_noticed() {
        #[track_caller]
        fn case(new_size: u64) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("file");
            fs::write(&path, vec![1; LARGE]).unwrap();
            let mut reader = NarReader::open(scan(&path).unwrap());
            let mut start = [0; 1000];
            reader.read_at(0, &mut start).unwrap();
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_len(new_size)
                .unwrap();
            let error = reader.read_at(1000, &mut vec![0; LARGE]).unwrap_err();
            let expected = format!("file: it has {new_size} bytes where {LARGE}");
            assert!(error.to_string().contains(&expected), "{error}");
        }
        case(LARGE as u64 - 1);
        case(LARGE as u64 + 1);
        case(0);
    }
}
