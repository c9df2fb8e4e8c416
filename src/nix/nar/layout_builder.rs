//! Makes a layout from the nodes of a tree, given in the order of the NAR.

use std::path::PathBuf;

use super::{
    Layout, Limits, MAGIC, NarError,
    layout::{Directory, NO_DIRECTORY, Name, PlannedFile},
    name_fault, padding,
};

/// Offsets into the literals are u32; half a million entries take a fifth of this.
const MAX_LITERAL_BYTES: usize = 1 << 29;

/// Larger than any file system; keeps every sum of offsets far from overflow.
const MAX_NAR_BYTES: u64 = 1 << 60;

/// Entries must come ascending by the bytes of their names; the name of the root is empty.
#[derive(Debug)]
pub struct LayoutBuilder {
    layout: Layout,
    /// The directories that are open, outermost first.
    open: Vec<u32>,
}

impl LayoutBuilder {
    /// `root` is what the NAR is made of.
    pub fn new(root: PathBuf) -> Self {
        let mut builder = Self {
            layout: Layout {
                root,
                literals: Vec::new(),
                directories: Vec::new(),
                files: Vec::new(),
                size: 0,
            },
            open: Vec::new(),
        };
        builder.word(MAGIC);
        builder
    }

    pub fn open_directory(&mut self, name: &[u8]) -> Result<(), NarError> {
        let name = self.open_node(name, b"directory")?;
        let index = to_u32(self.layout.directories.len())?;
        self.layout.directories.push(Directory {
            parent: self.open.last().copied().unwrap_or(NO_DIRECTORY),
            name,
        });
        self.open.push(index);
        Ok(())
    }

    /// Closes the directory that was opened last; without one nothing happens.
    pub fn close_directory(&mut self) {
        if self.open.pop().is_some() {
            self.close_node();
        }
    }

    pub fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<(), NarError> {
        self.open_node(name, b"symlink")?;
        self.words(&[b"target", target]);
        self.close_node();
        Ok(())
    }

    pub fn regular(&mut self, name: &[u8], executable: bool, size: u64) -> Result<(), NarError> {
        let name = self.open_node(name, b"regular")?;
        if executable {
            self.words(&[b"executable", b""]);
        }
        self.word(b"contents");
        self.literal(&size.to_le_bytes());
        if size > 0 {
            self.layout.files.push(PlannedFile {
                start: self.layout.size,
                size,
                literal_end: to_u32(self.layout.literals.len())?,
                directory: self.open.last().copied().unwrap_or(NO_DIRECTORY),
                name,
            });
            self.layout.size = self
                .layout
                .size
                .checked_add(size)
                .filter(|size| *size <= MAX_NAR_BYTES)
                .ok_or(NarError::TooMuch {
                    what: "bytes",
                    limit: MAX_NAR_BYTES,
                })?;
            self.literal(&[0; 8][..padding(size)]);
        }
        self.close_node();
        Ok(())
    }

    pub fn finish(mut self) -> Layout {
        self.layout.literals.shrink_to_fit();
        self.layout.directories.shrink_to_fit();
        self.layout.files.shrink_to_fit();
        self.layout
    }

    /// Writes the start of a node, inside of an entry unless it is the root, and says where its name stands.
    fn open_node(&mut self, name: &[u8], kind: &[u8]) -> Result<Name, NarError> {
        let mut place = Name { at: 0, len: 0 };
        if !self.open.is_empty() {
            if let Some(reason) = name_fault(name) {
                return Err(NarError::Name {
                    offset: self.layout.size,
                    name: name.to_owned(),
                    reason,
                });
            }
            if name.len() > Limits::NAME_BYTES {
                return Err(NarError::TooMuch {
                    what: "bytes in a name",
                    limit: Limits::NAME_BYTES as u64,
                });
            }
            self.words(&[b"entry", b"(", b"name"]);
            place = Name {
                at: to_u32(self.layout.literals.len() + 8)?,
                len: to_u32(name.len())?,
            };
            self.words(&[name, b"node"]);
        }
        self.words(&[b"(", b"type", kind]);
        if self.layout.literals.len() > MAX_LITERAL_BYTES {
            return Err(NarError::TooMuch {
                what: "bytes of names and symlinks",
                limit: MAX_LITERAL_BYTES as u64,
            });
        }
        Ok(place)
    }

    fn close_node(&mut self) {
        self.word(b")");
        if !self.open.is_empty() {
            self.word(b")");
        }
    }

    fn words(&mut self, words: &[&[u8]]) {
        for word in words {
            self.word(word);
        }
    }

    fn word(&mut self, word: &[u8]) {
        let len = word.len() as u64;
        self.literal(&len.to_le_bytes());
        self.literal(word);
        self.literal(&[0; 8][..padding(len)]);
    }

    fn literal(&mut self, bytes: &[u8]) {
        self.layout.literals.extend_from_slice(bytes);
        self.layout.size += bytes.len() as u64;
    }
}

fn to_u32(number: usize) -> Result<u32, NarError> {
    u32::try_from(number).map_err(|_| NarError::TooMuch {
        what: "bytes of names and symlinks",
        limit: u64::from(u32::MAX),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_root(name: &[u8]) -> Result<(), NarError> {
        let mut builder = LayoutBuilder::new(PathBuf::from("/r"));
        builder.open_directory(b"")?;
        builder.regular(name, false, 1)
    }

    #[test]
    fn names_refused() {
        #[track_caller]
        fn case(name: &[u8]) {
            in_root(name).unwrap_err();
        }
        case(b"");
        case(b".");
        case(b"..");
        case(b"a/b");
        case(b"a\0b");
        case(&[b'x'; 256]);
        in_root(&[b'x'; 255]).unwrap();
        in_root(b"\xff").unwrap();
    }

    #[test]
    fn sizes_do_not_overflow() {
        let mut builder = LayoutBuilder::new(PathBuf::from("/r"));
        builder.open_directory(b"").unwrap();
        builder.regular(b"a", false, u64::MAX).unwrap_err();
    }
}
