//! A file of a release: it appears whole or not at all, also after a power cut, and every user may read it.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::NamedTempFile;

/// What a run that was killed leaves begins so.
const PREFIX: &str = ".new-";
/// Seedboxes and web servers read it as other users.
const MODE: u32 = 0o644;

pub struct NewFile(NamedTempFile);

impl NewFile {
    pub fn create_in(directory: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).tempfile_in(directory).map(Self)
    }

    /// `path` is in the same directory.
    pub fn keep_as(self, path: &Path) -> io::Result<()> {
        let file = self.0.as_file();
        file.set_permissions(fs::Permissions::from_mode(MODE))?;
        file.sync_data()?;
        self.0.persist(path)?;
        Ok(())
    }
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Removes what runs that were killed left in `directory`; nobody else may be writing there.
pub fn remove_leftovers(directory: &Path) -> io::Result<()> {
    for file in fs::read_dir(directory)?.flatten() {
        if file.file_name().to_string_lossy().starts_with(PREFIX) {
            fs::remove_file(file.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_appears_whole_and_for_everybody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("payload");
        let mut file = NewFile::create_in(directory.path()).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.keep_as(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, MODE);
        fs::write(directory.path().join(".new-killed"), "half").unwrap();
        remove_leftovers(directory.path()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
