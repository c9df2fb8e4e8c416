//! A run of a NAR's bytes from one source.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Segment<'a> {
    /// The bytes themselves.
    Literal(&'a [u8]),
    /// `length` bytes from `offset` on of the file that [`Layout::file_path`](super::Layout::file_path) names.
    File {
        file: usize,
        offset: u64,
        length: u64,
    },
}
