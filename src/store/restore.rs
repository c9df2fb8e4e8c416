//! Unpacks a NAR to disk, all of it or nothing.

use std::{
    ffi::OsStr,
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::{
        ffi::OsStrExt,
        fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, symlink},
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use super::StoreError;
use crate::nix::nar::{Limits, Sink, read};

/// Nix's time of everything in a store: one second after the epoch.
const STORE_TIME: Duration = Duration::from_secs(1);

/// Before a directory is complete it is written to; nobody else may.
const OPEN_DIRECTORY: u32 = 0o700;
const EXECUTABLE: u32 = 0o555;
const READABLE: u32 = 0o444;

/// Unpacks to `dest`, which must not exist, with permissions and times as in a store.
///
/// It grows in a new directory beside `dest` that only we can enter, every node is made exclusively, and NARs name no
/// node twice: so no symlink of the NAR is ever followed.
pub fn restore(input: impl Read, dest: &Path, limits: &Limits) -> Result<(), StoreError> {
    if fs::symlink_metadata(dest).is_ok() {
        return Err(StoreError::Exists(dest.to_owned()));
    }
    let parent = match dest.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut temporary = tempfile::Builder::new()
        .prefix(".narswarm-unpack-")
        .tempdir_in(parent)
        .map_err(StoreError::io("make a directory in", parent))?;
    let mut tree = Tree {
        root: temporary.path().to_owned(),
        directories: Vec::new(),
        file: None,
        root_kind: RootKind::Directory,
    };
    let unpacked = read(input, &mut tree, limits)
        .map_err(|cause| StoreError::Unpack {
            dest: dest.to_owned(),
            cause,
        })
        .and_then(|_| tree.seal())
        .and_then(|()| tree.move_to(dest));
    match (&unpacked, &tree.root_kind) {
        (Ok(()), RootKind::Directory) => temporary.disable_cleanup(true),
        (Ok(()), _) => {}
        (Err(_), _) => tree.unseal(),
    }
    unpacked
}

/// What is unpacked so far.
struct Tree {
    /// The temporary directory; it becomes the root if that is a directory.
    root: PathBuf,
    /// In the order of the NAR, so that each stands before what is in it.
    directories: Vec<PathBuf>,
    file: Option<OpenFile>,
    root_kind: RootKind,
}

enum RootKind {
    Directory,
    /// Lies in the temporary directory.
    Regular(PathBuf),
    /// Made only where it belongs.
    Symlink(PathBuf),
}

struct OpenFile {
    path: PathBuf,
    handle: File,
    executable: bool,
    left: u64,
}

impl Tree {
    fn at(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Closes the file when all its bytes are there.
    fn close_if_complete(&mut self) -> io::Result<()> {
        match self.file.take() {
            Some(file) if file.left == 0 => {
                let mode = if file.executable {
                    EXECUTABLE
                } else {
                    READABLE
                };
                let sealed = file
                    .handle
                    .set_permissions(Permissions::from_mode(mode))
                    .and_then(|()| {
                        file.handle
                            .set_modified(SystemTime::UNIX_EPOCH + STORE_TIME)
                    });
                sealed.map_err(at("finish", &file.path))
            }
            file => {
                self.file = file;
                Ok(())
            }
        }
    }

    /// Gives directories their permissions and times, inner ones first: what is made in a directory changes its time.
    fn seal(&self) -> Result<(), StoreError> {
        for directory in self.directories.iter().rev() {
            File::open(directory)
                .and_then(|handle| {
                    handle.set_permissions(Permissions::from_mode(EXECUTABLE))?;
                    handle.set_modified(SystemTime::UNIX_EPOCH + STORE_TIME)
                })
                .map_err(StoreError::io("finish", directory))?;
        }
        Ok(())
    }

    /// Makes everything removable again.
    fn unseal(&self) {
        for directory in &self.directories {
            // What can't be changed stays behind; the first error is the one to tell.
            let _ = fs::set_permissions(directory, Permissions::from_mode(OPEN_DIRECTORY));
        }
    }

    /// Neither of the three ways replaces anything, except that a directory replaces an empty one.
    fn move_to(&self, dest: &Path) -> Result<(), StoreError> {
        let moved = match &self.root_kind {
            RootKind::Directory => fs::rename(&self.root, dest),
            RootKind::Regular(path) => fs::hard_link(path, dest),
            RootKind::Symlink(target) => symlink(target, dest),
        };
        moved.map_err(|cause| match cause.kind() {
            io::ErrorKind::AlreadyExists
            | io::ErrorKind::DirectoryNotEmpty
            | io::ErrorKind::NotADirectory => StoreError::Exists(dest.to_owned()),
            _ => StoreError::io("move to", dest)(cause),
        })
    }
}

impl Sink for Tree {
    fn directory(&mut self, path: &[u8]) -> io::Result<()> {
        let full = self.at(path);
        if !path.is_empty() {
            DirBuilder::new()
                .mode(OPEN_DIRECTORY)
                .create(&full)
                .map_err(at("make", &full))?;
        }
        self.directories.push(full);
        Ok(())
    }

    fn symlink(&mut self, path: &[u8], target: &[u8]) -> io::Result<()> {
        let target = PathBuf::from(OsStr::from_bytes(target));
        if path.is_empty() {
            self.root_kind = RootKind::Symlink(target);
            return Ok(());
        }
        let full = self.at(path);
        symlink(target, &full).map_err(at("make", &full))
    }

    fn regular(&mut self, path: &[u8], executable: bool, size: u64) -> io::Result<()> {
        let full = if path.is_empty() {
            let file = self.root.join("file");
            self.root_kind = RootKind::Regular(file.clone());
            file
        } else {
            self.at(path)
        };
        let handle = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&full)
            .map_err(at("make", &full))?;
        self.file = Some(OpenFile {
            path: full,
            handle,
            executable,
            left: size,
        });
        self.close_if_complete()
    }

    fn contents(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            file.handle
                .write_all(bytes)
                .map_err(at("write", &file.path))?;
            file.left = file.left.saturating_sub(bytes.len() as u64);
        }
        self.close_if_complete()
    }
}

/// Puts action and path into an I/O error's message.
fn at(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> io::Error {
    move |cause| {
        io::Error::new(
            cause.kind(),
            format!("{action} {}: {cause}", path.display()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A NAR in shorthand: words between spaces.
    fn nar(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in text.split_ascii_whitespace() {
            bytes.extend_from_slice(&(word.len() as u64).to_le_bytes());
            bytes.extend_from_slice(word.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes
    }

    const FILE: &str = "( type regular contents new )";
    const LINK: &str = "( type symlink target ../outside )";

    fn directory(entries: &[(&str, &str)]) -> String {
        let entries: Vec<String> = entries
            .iter()
            .map(|(name, node)| format!("entry ( name {name} node {node} )"))
            .collect();
        format!("( type directory {} )", entries.join(" "))
    }

    #[test]
    fn what_fails_leaves_nothing_and_touches_nothing() {
        #[track_caller]
        fn case(node: &str, limits: &Limits) {
            let dir = tempfile::tempdir().unwrap();
            fs::create_dir(dir.path().join("outside")).unwrap();
            fs::write(dir.path().join("outside/file"), "old").unwrap();
            let bytes = nar(&format!("nix-archive-1 {node}"));
            let dest = dir.path().join("dest");
            restore(bytes.as_slice(), &dest, limits).unwrap_err();
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            assert_eq!(fs::read(dir.path().join("outside/file")).unwrap(), b"old");
            assert_eq!(fs::read_dir(dir.path().join("outside")).unwrap().count(), 1);
        }
        let inside = directory(&[("file", FILE)]);
        let all = Limits::default();
        case(&directory(&[("a", LINK), ("a", &inside)]), &all);
        case(&directory(&[("a", LINK), ("a/file", FILE)]), &all);
        case(
            &directory(&[("..", &directory(&[("outside", &inside)]))]),
            &all,
        );
        case(
            &directory(&[("a", &inside), ("b", FILE)]).replace("b node", "b"),
            &all,
        );
        case(&format!("{FILE} ("), &all);
        case(&format!("{LINK} ("), &all);
        let few = Limits { entries: 2, ..all };
        case(&directory(&[("a", FILE), ("b", FILE)]), &few);
    }

    #[test]
    fn a_symlink_that_leads_out_is_only_a_symlink() {
        let dir = tempfile::tempdir().unwrap();
        let dest = dir.path().join("dest");
        let tree = directory(&[("a", LINK), ("b", &directory(&[("a", FILE)]))]);
        let bytes = nar(&format!("nix-archive-1 {tree}"));
        restore(bytes.as_slice(), &dest, &Limits::default()).unwrap();
        assert_eq!(
            fs::read_link(dest.join("a")).unwrap(),
            Path::new("../outside")
        );
        assert_eq!(fs::read(dest.join("b/a")).unwrap(), b"new");
        assert!(!dir.path().join("outside").exists());
    }

    #[test]
    fn what_exists_is_left_alone() {
        #[track_caller]
        fn case(make: fn(&Path)) {
            for node in [FILE, LINK, &directory(&[("a", FILE)])] {
                let dir = tempfile::tempdir().unwrap();
                let dest = dir.path().join("dest");
                make(&dest);
                let kind = fs::symlink_metadata(&dest).unwrap().file_type();
                let bytes = nar(&format!("nix-archive-1 {node}"));
                let error = restore(bytes.as_slice(), &dest, &Limits::default()).unwrap_err();
                assert!(matches!(error, StoreError::Exists(_)), "{error}");
                assert_eq!(fs::symlink_metadata(&dest).unwrap().file_type(), kind);
                assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
            }
        }
        case(|dest| fs::write(dest, "old").unwrap());
        case(|dest| fs::create_dir(dest).unwrap());
        case(|dest| symlink("nowhere", dest).unwrap());
    }
}
