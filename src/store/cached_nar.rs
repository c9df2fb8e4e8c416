//! A NAR read out of the kernel's memory, without ever waiting for the disk: so small ones need no thread of their own.

use std::{io::IoSliceMut, os::fd::OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::nix::nar::Layout;

/// Fills the buffer from this offset of the NAR on, as [`NarReader`](super::NarReader) does. `None` when that would have
/// to wait, or when anything is not as planned: a `NarReader` then finds out what, and says so.
pub fn read_cached(layout: &Layout, from: u64, buffer: &mut [u8]) -> Option<usize> {
    let mut place = Place::default();
    let read = layout.fill(
        from,
        buffer,
        |file, offset, length, rest| -> Result<(), Errno> {
            let handle = place.open_file(layout, file)?;
            // One byte more would be there if the file had grown. No file is a NAR's end, so there is room for it.
            let room = rest.get_mut(..=length).ok_or(Errno::NOSPC)?;
            let mut room = [IoSliceMut::new(room)];
            match preadv2(&handle, &mut room, offset, ReadWriteFlags::NOWAIT)? {
                read if read == length => Ok(()),
                _ => Err(Errno::AGAIN),
            }
        },
    );
    read.ok()
}

/// The directory of the file before: the way to the next one is mostly a single name.
#[derive(Default)]
struct Place {
    directory: Option<(u32, OwnedFd)>,
}

impl Place {
    fn open_file(&mut self, layout: &Layout, file: usize) -> Result<OwnedFd, Errno> {
        // Symlinks are not followed, and a pipe would not be waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let flags_of_directory =
            OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (cached, mode) = (ResolveFlags::CACHED, Mode::empty());
        let Some(wanted) = layout.directory_of(file) else {
            return openat2(CWD, layout.file_path(file), flags, mode, cached);
        };
        if self
            .directory
            .as_ref()
            .is_none_or(|(open, _)| *open != wanted)
        {
            let path = layout.directory_path(wanted);
            let opened = openat2(CWD, path, flags_of_directory, mode, cached)?;
            self.directory = Some((wanted, opened));
        }
        let (_, directory) = self.directory.as_ref().ok_or(Errno::NOENT)?;
        openat2(directory, layout.file_name(file), flags, mode, cached)
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Read, path::Path};

    use super::*;
    use crate::store::{NarReader, scan};

    const ROOM: usize = 100_000;

    /// Whether this kernel and file system read without waiting: what has just been written is in memory.
    fn works(directory: &Path) -> bool {
        let path = directory.join("probe");
        fs::write(&path, "probe").unwrap();
        let file = fs::File::open(&path).unwrap();
        let mut buffer = [0; 5];
        let mut room = [IoSliceMut::new(&mut buffer)];
        preadv2(&file, &mut room, 0, ReadWriteFlags::NOWAIT) == Ok(5)
    }

    /// Of the one file's bytes in the NAR of a directory with this file alone.
    const START: usize = 232;

    /// Its NAR, read with this much room; nothing where this kernel or file system cannot read without waiting.
    fn read(layout: &Layout, from: u64, room: usize) -> Option<Vec<u8>> {
        let mut buffer = vec![0; room];
        let filled = read_cached(layout, from, &mut buffer)?;
        buffer.truncate(filled);
        Some(buffer)
    }

    #[test]
    fn it_is_what_a_reader_reads() {
        #[track_caller]
        fn case(make: fn(&Path)) {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path().join("root");
            make(&root);
            let layout = scan(&root).unwrap();
            let mut whole = Vec::new();
            NarReader::open(scan(&root).unwrap())
                .read_to_end(&mut whole)
                .unwrap();
            for from in (0..whole.len()).step_by(37) {
                let bytes = read(&layout, from as u64, ROOM);
                let whole = works(dir.path()).then(|| whole[from..].to_vec());
                assert_eq!(bytes, whole, "from {from}");
            }
        }
        case(|root| fs::write(root, "the root is a file").unwrap());
        case(|root| std::os::unix::fs::symlink("x", root).unwrap());
        case(|root| {
            for directory in ["a", "a/b", "c"] {
                fs::create_dir_all(root.join(directory)).unwrap();
                for name in ["empty", "one", "other"] {
                    let content = if name == "empty" { "" } else { name };
                    fs::write(root.join(directory).join(name), content).unwrap();
                }
            }
        });
    }

    #[test]
    fn what_is_not_as_planned_is_not_read() {
        #[track_caller]
        fn case(change: fn(&Path), room: usize) {
            let dir = tempfile::tempdir().unwrap();
            let other = tempfile::tempdir().unwrap();
            fs::write(dir.path().join("file"), "12345").unwrap();
            let layout = scan(dir.path()).unwrap();
            assert_eq!(read(&layout, 0, ROOM).is_some(), works(other.path()));
            change(&dir.path().join("file"));
            assert_eq!(read(&layout, 0, room), None);
        }
        case(|file| fs::write(file, "1234").unwrap(), ROOM);
        case(|file| fs::write(file, "123456").unwrap(), ROOM);
        case(|file| fs::remove_file(file).unwrap(), ROOM);
        case(
            |file| {
                fs::rename(file, file.with_extension("other")).unwrap();
                std::os::unix::fs::symlink("file.other", file).unwrap();
            },
            ROOM,
        );
        case(|_| {}, START + 3);
    }
}
