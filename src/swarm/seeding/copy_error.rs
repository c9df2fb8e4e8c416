//! Why a copy of a payload did not give its bytes: there are others in its place, or they could not be read this time.

use std::io;

use thiserror::Error;

use crate::payload::{DescribeError, RecreateError};
use crate::store::StoreError;

#[derive(Debug, Error)]
pub enum CopyError {
    /// What lies there is not what the row says.
    #[error("{0}")]
    Altered(String),
    /// Says nothing of the next time: no descriptor was left, the disk failed, a file is being removed.
    #[error("{0}")]
    Unreadable(String),
}

impl CopyError {
    fn new(altered: bool, error: &impl ToString) -> Self {
        match altered {
            true => Self::Altered(error.to_string()),
            false => Self::Unreadable(error.to_string()),
        }
    }
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::new(error.is_alteration(), &error)
    }
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::new(is_alteration(&error), &error)
    }
}

impl From<RecreateError> for CopyError {
    fn from(error: RecreateError) -> Self {
        let altered = match &error {
            RecreateError::Read(cause) => is_alteration(cause),
            RecreateError::Changed { .. } => true,
            RecreateError::Encoder(_) => false,
        };
        Self::new(altered, &error)
    }
}

impl From<DescribeError> for CopyError {
    fn from(error: DescribeError) -> Self {
        let altered = match &error {
            DescribeError::Read(cause) => is_alteration(cause),
            DescribeError::Size { .. } | DescribeError::NotFrames => true,
            DescribeError::Write(_) | DescribeError::Encoder(_) => false,
        };
        Self::new(altered, &error)
    }
}

/// A store's error travels in those of readers. What ends too early is shorter than the row says, and what is no valid data
/// does not have its hash.
fn is_alteration(error: &io::Error) -> bool {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(error) => StoreError::is_alteration(error),
        None => matches!(
            error.kind(),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::path::Path;

    use super::*;
    use crate::store::{NarReader, scan};

    #[test]
    fn what_cannot_be_read_is_not_altered() {
        #[track_caller]
        fn case(change: fn(&Path), altered: bool) {
            let directory = tempfile::tempdir().unwrap();
            let file = directory.path().join("file");
            fs::write(&file, "abc").unwrap();
            let layout = scan(directory.path()).unwrap();
            change(&file);
            let error = NarReader::open(layout).read_to_end(&mut Vec::new());
            let error = CopyError::from(RecreateError::Read(error.unwrap_err()));
            assert_eq!(matches!(error, CopyError::Altered(_)), altered, "{error}");
        }
        case(|file| fs::remove_file(file).unwrap(), false);
        case(|file| fs::write(file, "ab").unwrap(), true);
        case(
            |file| {
                fs::remove_file(file).unwrap();
                fs::create_dir(file).unwrap();
            },
            true,
        );
        let no_descriptor = io::Error::from(rustix::io::Errno::MFILE);
        let error = CopyError::from(no_descriptor);
        assert!(matches!(error, CopyError::Unreadable(_)));
    }
}
