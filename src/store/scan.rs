//! Walks a path of the store and plans its NAR, without opening any file.

use std::{
    ffi::OsString,
    fs::{self, Metadata},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::{Path, PathBuf},
    vec,
};

use super::StoreError;
use crate::nix::nar::{Layout, LayoutBuilder, Limits, NarError};

/// What Nix takes for executable: the owner's bit.
const OWNER_EXECUTES: u32 = 0o100;

/// Plans the NAR of what lies there: a directory, a file or a symlink. Names are not followed anywhere.
pub fn scan(real: &Path) -> Result<Layout, StoreError> {
    let metadata = fs::symlink_metadata(real).map_err(StoreError::io("look at", real))?;
    let root = Node {
        name: OsString::new(),
        kind: Kind::new(real, &metadata)?,
    };
    let mut walk = Walk {
        path: real.to_owned(),
        builder: LayoutBuilder::new(real.to_owned()),
        open: Vec::new(),
        entries: 0,
        limits: Limits::default(),
    };
    walk.node(&root)?;
    while let Some(directory) = walk.open.last_mut() {
        if let Some(node) = directory.next() {
            walk.path.push(&node.name);
            walk.node(&node)?;
            if !matches!(node.kind, Kind::Directory) {
                walk.path.pop();
            }
        } else {
            walk.open.pop();
            walk.path.pop();
            walk.builder.close_directory();
        }
    }
    Ok(walk.builder.finish())
}

struct Node {
    name: OsString,
    kind: Kind,
}

enum Kind {
    Directory,
    Symlink { target: OsString },
    Regular { executable: bool, size: u64 },
}

impl Kind {
    fn new(path: &Path, metadata: &Metadata) -> Result<Self, StoreError> {
        if metadata.is_file() {
            Ok(Self::Regular {
                executable: metadata.permissions().mode() & OWNER_EXECUTES != 0,
                size: metadata.len(),
            })
        } else if metadata.is_dir() {
            Ok(Self::Directory)
        } else if metadata.is_symlink() {
            let target = fs::read_link(path).map_err(StoreError::io("read symlink", path))?;
            Ok(Self::Symlink {
                target: target.into_os_string(),
            })
        } else {
            Err(StoreError::Unfit {
                path: path.to_owned(),
                reason: "a NAR holds only files, directories and symlinks",
            })
        }
    }
}

struct Walk {
    /// Of the node that was reached last.
    path: PathBuf,
    builder: LayoutBuilder,
    /// What is left of each directory that is open, outermost first.
    open: Vec<vec::IntoIter<Node>>,
    entries: u64,
    limits: Limits,
}

impl Walk {
    fn node(&mut self, node: &Node) -> Result<(), StoreError> {
        let name = node.name.as_bytes();
        let added = match &node.kind {
            Kind::Directory => {
                if self.open.len() == self.limits.depth {
                    let limit = self.limits.depth as u64;
                    return Err(self.too_much("directories inside of each other", limit));
                }
                let nodes = self.list()?;
                self.open.push(nodes.into_iter());
                self.builder.open_directory(name)
            }
            Kind::Symlink { target } => self.builder.symlink(name, target.as_bytes()),
            Kind::Regular { executable, size } => self.builder.regular(name, *executable, *size),
        };
        added.map_err(|cause| StoreError::Plan {
            path: self.path.clone(),
            cause,
        })
    }

    /// The directory's entries by the bytes of their names, looked at now so that no directory stays open.
    fn list(&mut self) -> Result<Vec<Node>, StoreError> {
        let directory = &self.path;
        let mut nodes = Vec::new();
        for entry in fs::read_dir(directory).map_err(StoreError::io("list", directory))? {
            let entry = entry.map_err(StoreError::io("list", directory))?;
            self.entries += 1;
            if self.entries > self.limits.entries {
                return Err(self.too_much("entries", self.limits.entries));
            }
            let path = entry.path();
            let metadata = entry.metadata().map_err(StoreError::io("look at", &path))?;
            nodes.push(Node {
                kind: Kind::new(&path, &metadata)?,
                name: entry.file_name(),
            });
        }
        nodes.sort_unstable_by(|a, b| a.name.as_bytes().cmp(b.name.as_bytes()));
        Ok(nodes)
    }

    fn too_much(&self, what: &'static str, limit: u64) -> StoreError {
        StoreError::Plan {
            path: self.path.clone(),
            cause: NarError::TooMuch { what, limit },
        }
    }
}
