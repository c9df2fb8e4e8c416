//! A file that appears whole or not at all, also after a power cut.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tempfile::NamedTempFile;

/// What a run that was killed leaves begins so.
const PREFIX: &str = ".new-";

/// Who may read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    Owner,
    Everybody,
}

pub struct NewFile(NamedTempFile);

impl NewFile {
    /// For a file that will be kept as `path`.
    pub fn create(path: &Path) -> io::Result<Self> {
        let directory = path.parent().filter(|path| !path.as_os_str().is_empty());
        Self::create_in(directory.unwrap_or(Path::new(".")))
    }

    pub fn create_in(directory: &Path) -> io::Result<Self> {
        let mut builder = tempfile::Builder::new();
        builder.prefix(PREFIX).tempfile_in(directory).map(Self)
    }

    /// `path` is in the directory that it was created in.
    pub fn keep_as(self, path: &Path, readers: Readers) -> io::Result<()> {
        let file = self.0.as_file();
        let mode = match readers {
            Readers::Owner => 0o600,
            Readers::Everybody => 0o644,
        };
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_data()?;
        self.0.persist(path)?;
        Ok(())
    }
}

/// The same in one go.
pub fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> io::Result<()> {
    let mut file = NewFile::create(path)?;
    file.write_all(bytes)?;
    file.keep_as(path, readers)
}

impl Write for NewFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Removes what runs that were killed so long ago left in `directory`; whoever else writes there takes less.
pub fn remove_leftovers(directory: &Path, age: Duration) -> io::Result<()> {
    for file in fs::read_dir(directory)?.flatten() {
        let is_new = file.file_name().to_string_lossy().starts_with(PREFIX);
        let written = || file.metadata().ok()?.modified().ok()?.elapsed().ok();
        if is_new && (age.is_zero() || written().is_some_and(|written| written >= age)) {
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
        let mut file = NewFile::create(&path).unwrap();
        file.write_all(b"whole").unwrap();
        assert!(!path.exists());
        file.keep_as(&path, Readers::Everybody).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"whole");
        let mode = path.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o644);
        fs::write(directory.path().join(".new-killed"), "half").unwrap();
        remove_leftovers(directory.path(), Duration::from_secs(3600)).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
        remove_leftovers(directory.path(), Duration::ZERO).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
