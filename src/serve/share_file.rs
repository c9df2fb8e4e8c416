//! `STATE/share`: what `narswarm share` chose. It wins over the configuration and outlives restarts: a machine that was
//! told to give nothing gives nothing until it is told otherwise.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::Counters;
use crate::runtime::{Readers, write_new};
use crate::swarm::Share;

pub struct ShareFile(PathBuf);

impl ShareFile {
    pub fn new(state: &Path) -> Self {
        Self(state.join("share"))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// `None` is: as configured.
    pub fn read(&self) -> io::Result<Option<Share>> {
        match fs::read_to_string(&self.0) {
            Ok(text) => text.trim_end().parse().map(Some).map_err(io::Error::other),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A file that cannot be read was written by somebody who wanted something: nothing is given then.
    pub fn read_or_off(&self, counters: &Counters) -> Option<Share> {
        self.read().unwrap_or_else(|error| {
            let path = self.0.display();
            counters.error(format!(
                "share = off, because {path} cannot be read: {error}"
            ));
            Some(Share::Off)
        })
    }

    pub fn write(&self, share: Option<Share>) -> io::Result<()> {
        let Some(share) = share else {
            return match fs::remove_file(&self.0) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            };
        };
        let line = format!("{}\n", share.as_str());
        write_new(&self.0, line.as_bytes(), Readers::Everybody)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_kept_and_taken_back() {
        let state = tempfile::tempdir().unwrap();
        let file = ShareFile::new(state.path());
        assert_eq!(file.read().unwrap(), None);
        file.write(None).unwrap();
        for share in [Share::Off, Share::Lan, Share::Public] {
            file.write(Some(share)).unwrap();
            assert_eq!(file.read().unwrap(), Some(share));
        }
        file.write(None).unwrap();
        assert_eq!(file.read().unwrap(), None);
        fs::write(file.path(), "everybody\n").unwrap();
        assert!(file.read().is_err());
        assert_eq!(file.read_or_off(&Counters::default()), Some(Share::Off));
    }
}
