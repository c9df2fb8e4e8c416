//! Who wants to know how far a publication is.

/// Told from several threads.
pub trait Progress: Sync {
    /// So much is to be read; what an earlier release or run already described is left out.
    fn begin(&self, paths: u64, nar_bytes: u64);
    fn read(&self, nar_bytes: u64);
    fn path_done(&self);
}
