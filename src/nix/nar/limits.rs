//! How much a NAR may make its reader do.

/// PATH_MAX leaves room for no more components.
const MAX_DEPTH: usize = 2048;

/// The largest trees in nixpkgs (TeX Live, Chromium's source) have half a million files.
const MAX_ENTRIES: u64 = 8_000_000;

/// Beyond any real NAR; whoever knows the NarSize sets it.
const MAX_SIZE: u64 = 1 << 40;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Directories inside of each other.
    pub depth: usize,
    /// Files, directories and symlinks together.
    pub entries: u64,
    /// Bytes of the whole NAR.
    pub size: u64,
}

impl Limits {
    /// NAME_MAX: no file system takes a longer name.
    pub const NAME_BYTES: usize = 255;

    /// PATH_MAX without the final zero: no symlink is longer.
    pub const TARGET_BYTES: usize = 4095;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: MAX_DEPTH,
            entries: MAX_ENTRIES,
            size: MAX_SIZE,
        }
    }
}
