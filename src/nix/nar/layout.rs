//! The plan of one NAR: its bytes, except that those of files are said by where they lie.

use std::{ffi::OsStr, ops::Range, os::unix::ffi::OsStrExt, path::PathBuf};

use super::Segment;

/// Segments in order: a literal before each non-empty file and one behind the last; any of them is found by its offset.
///
/// Compact, because a NAR may have 60,000 files: all literals lie in one buffer, and a file's path is put together
/// from names that stand there anyway.
#[derive(Debug)]
pub struct Layout {
    /// What the NAR is made of; absolute on disk.
    pub(super) root: PathBuf,
    pub(super) literals: Vec<u8>,
    pub(super) directories: Vec<Directory>,
    pub(super) files: Vec<PlannedFile>,
    pub(super) size: u64,
}

/// A name within the literals.
#[derive(Debug, Clone, Copy)]
pub(super) struct Name {
    pub(super) at: u32,
    pub(super) len: u32,
}

#[derive(Debug)]
pub(super) struct Directory {
    pub(super) parent: u32,
    pub(super) name: Name,
}

#[derive(Debug)]
pub(super) struct PlannedFile {
    /// Where its bytes start in the NAR.
    pub(super) start: u64,
    pub(super) size: u64,
    /// Where the literal before it ends in the literals.
    pub(super) literal_end: u32,
    /// Index of its directory, or [`NO_DIRECTORY`].
    pub(super) directory: u32,
    pub(super) name: Name,
}

/// The file is the root itself, or the directory is.
pub(super) const NO_DIRECTORY: u32 = u32::MAX;

impl PlannedFile {
    fn end(&self) -> u64 {
        self.start + self.size
    }
}

impl Layout {
    /// NarSize.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What the plan itself takes.
    pub fn memory(&self) -> u32 {
        let bytes = self.literals.len()
            + size_of_val(&self.directories[..])
            + size_of_val(&self.files[..])
            + size_of::<Self>();
        bytes.try_into().unwrap_or(u32::MAX)
    }

    /// Where a file lies on disk.
    pub fn file_path(&self, file: usize) -> PathBuf {
        let planned = &self.files[file];
        match self.directory_of(file) {
            Some(directory) => self.directory_path(directory).join(self.name(planned.name)),
            None => self.root.clone(),
        }
    }

    /// The directory that a file lies in; `None` when the NAR is this file.
    pub fn directory_of(&self, file: usize) -> Option<u32> {
        Some(self.files[file].directory).filter(|directory| *directory != NO_DIRECTORY)
    }

    pub fn directory_path(&self, directory: u32) -> PathBuf {
        let mut names = Vec::new();
        let mut directory = &self.directories[directory as usize];
        while directory.parent != NO_DIRECTORY {
            names.push(directory.name);
            directory = &self.directories[directory.parent as usize];
        }
        let mut path = self.root.clone();
        path.extend(names.iter().rev().map(|name| self.name(*name)));
        path
    }

    /// Within its directory.
    pub fn file_name(&self, file: usize) -> &OsStr {
        self.name(self.files[file].name)
    }

    fn name(&self, name: Name) -> &OsStr {
        let at = name.at as usize;
        OsStr::from_bytes(&self.literals[at..at + name.len as usize])
    }

    /// The whole of it.
    pub fn file_size(&self, file: usize) -> u64 {
        self.files[file].size
    }

    /// Fills `buffer` from this offset of the NAR on; only at its end less is filled. `read` is given a file, an offset
    /// in it, how many of its bytes are wanted there, and the rest of the buffer.
    pub fn fill<E>(
        &self,
        from: u64,
        buffer: &mut [u8],
        mut read: impl FnMut(usize, u64, usize, &mut [u8]) -> Result<(), E>,
    ) -> Result<usize, E> {
        let end = from.saturating_add(buffer.len() as u64);
        let mut filled = 0;
        for segment in self.segments_in(from..end) {
            match segment {
                Segment::Literal(bytes) => {
                    buffer[filled..filled + bytes.len()].copy_from_slice(bytes);
                    filled += bytes.len();
                }
                Segment::File {
                    file,
                    offset,
                    length,
                } => {
                    // At most the buffer's length.
                    let length = length as usize;
                    read(file, offset, length, &mut buffer[filled..])?;
                    filled += length;
                }
            }
        }
        Ok(filled)
    }

    /// The segments that make up these bytes of the NAR, cut at both ends; what lies beyond the NAR is left out.
    pub fn segments_in(&self, range: Range<u64>) -> impl Iterator<Item = Segment<'_>> {
        let end = range.end.min(self.size);
        let mut position = range.start;
        let mut file = self.files.partition_point(|file| file.end() <= position);
        std::iter::from_fn(move || {
            if position >= end {
                return None;
            }
            let (literal_end, literal_stop) = match self.files.get(file) {
                Some(planned) => (planned.literal_end as usize, planned.start),
                None => (self.literals.len(), self.size),
            };
            if position < literal_stop {
                // Distances within the literals fit a u32.
                let from = literal_end - (literal_stop - position) as usize;
                let stop = literal_stop.min(end);
                let length = (stop - position) as usize;
                position = stop;
                return Some(Segment::Literal(&self.literals[from..from + length]));
            }
            let planned = &self.files[file];
            let stop = planned.end().min(end);
            let segment = Segment::File {
                file,
                offset: position - planned.start,
                length: stop - position,
            };
            position = stop;
            file += 1;
            Some(segment)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{Strategy, proptest};

    use super::*;
    use crate::nix::nar::LayoutBuilder;

    /// A tree with files of these sizes, three to a directory, the rest in its first sub-directories.
    fn layout(sizes: &[u64]) -> Layout {
        let mut builder = LayoutBuilder::new(PathBuf::from("/r"));
        builder.open_directory(b"").unwrap();
        for (i, chunk) in sizes.chunks(3).enumerate() {
            builder
                .open_directory(format!("d{i:03}").as_bytes())
                .unwrap();
            for (j, size) in chunk.iter().enumerate() {
                builder
                    .regular(format!("f{j}").as_bytes(), j == 1, *size)
                    .unwrap();
            }
            builder.close_directory();
        }
        builder.symlink(b"link", b"target").unwrap();
        builder.close_directory();
        builder.finish()
    }

    /// What the segments are read as; a file's bytes are made from its path and their offsets.
    fn produce(layout: &Layout, range: Range<u64>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for segment in layout.segments_in(range) {
            match segment {
                Segment::Literal(literal) => {
                    assert!(!literal.is_empty());
                    bytes.extend_from_slice(literal);
                }
                Segment::File {
                    file,
                    offset,
                    length,
                } => {
                    assert!(length > 0 && offset + length <= layout.file_size(file));
                    let seed = layout.file_path(file).as_os_str().len() as u64 + file as u64;
                    bytes.extend((offset..offset + length).map(|at| (at * 7 + seed) as u8));
                }
            }
        }
        bytes
    }

    proptest! {
        #[test]
        fn any_range_is_that_slice_of_the_whole(
            sizes in proptest::collection::vec(0_u64..40, 0..12),
            cuts in (0_u64..4000, 0_u64..4000).prop_map(|(a, b)| a.min(b)..a.max(b)),
        ) {
            let layout = layout(&sizes);
            let whole = produce(&layout, 0..u64::MAX);
            assert_eq!(whole.len() as u64, layout.size());
            let clip = |at: u64| (at as usize).min(whole.len());
            assert_eq!(produce(&layout, cuts.clone()), whole[clip(cuts.start)..clip(cuts.end)]);
        }
    }

    #[test]
    fn paths_and_merged_literals() {
        let layout = layout(&[5, 0, 6, 7]);
        let files: Vec<_> = layout
            .segments_in(0..layout.size())
            .filter_map(|segment| match segment {
                Segment::File { file, length, .. } => Some((layout.file_path(file), length)),
                Segment::Literal(_) => None,
            })
            .collect();
        assert_eq!(
            files,
            [
                (PathBuf::from("/r/d000/f0"), 5),
                (PathBuf::from("/r/d000/f2"), 6),
                (PathBuf::from("/r/d001/f0"), 7),
            ]
        );
        assert_eq!(layout.segments_in(0..layout.size()).count(), 7);
    }
}
