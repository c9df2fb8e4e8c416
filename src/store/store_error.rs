//! What can go wrong with a store. Each message is whole: it contains its cause.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::nix::{ParseError, nar::NarError};

#[derive(Debug, Error)]
pub enum StoreError {
    #[error("store URI `{uri}`: {reason}")]
    Uri { uri: String, reason: &'static str },
    #[error("{action} {}: {cause}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        cause: io::Error,
    },
    #[error("read Nix's database {}: {cause}", .path.display())]
    Database {
        path: PathBuf,
        cause: rusqlite::Error,
    },
    #[error("read Nix's database: the record of `{path}`: {cause}")]
    Record { path: String, cause: ParseError },
    #[error("read Nix's database: more than {limit} {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("`{path}` is not valid in the store {}", .store.display())]
    NotValid { path: String, store: PathBuf },
    #[error("plan the NAR of {}: {cause}", .path.display())]
    Plan { path: PathBuf, cause: NarError },
    #[error("read {}: {reason}", .path.display())]
    Unfit { path: PathBuf, reason: &'static str },
    #[error("read {}: it has {actual} bytes where {planned} were planned", .path.display())]
    Resized {
        path: PathBuf,
        planned: u64,
        actual: u64,
    },
    #[error("unpack to {}: it exists already", .0.display())]
    Exists(PathBuf),
    #[error("unpack to {}: {cause}", .dest.display())]
    Unpack { dest: PathBuf, cause: NarError },
}

impl StoreError {
    /// Whether something else lies there than was planned or than a store holds, so that another reading would say the same.
    pub fn is_alteration(&self) -> bool {
        matches!(
            self,
            Self::Plan { .. } | Self::Unfit { .. } | Self::Resized { .. }
        )
    }

    /// For `map_err`.
    pub(super) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |cause| Self::Io {
            action,
            path,
            cause,
        }
    }
}
