//! Who takes in what a NAR contains.

use std::io;

/// Called in the order of the NAR. `path` is relative to the root: checked names with `/` between, empty for the root itself.
pub trait Sink {
    fn directory(&mut self, path: &[u8]) -> io::Result<()>;

    fn symlink(&mut self, path: &[u8], target: &[u8]) -> io::Result<()>;

    /// The `size` bytes of the file follow in calls of [`contents`](Self::contents).
    fn regular(&mut self, path: &[u8], executable: bool, size: u64) -> io::Result<()>;

    fn contents(&mut self, bytes: &[u8]) -> io::Result<()>;
}
