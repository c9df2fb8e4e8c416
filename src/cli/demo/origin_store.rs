//! A publisher's store for the demo: packages made of this machine's own files, with references, in a chroot store
//! with Nix's database. Made without Nix, because the demo runs where there is none.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::nix::{HashPart, NarHash, ParseError, StoreDir, StorePath};
use crate::store::{StoreError, nar_hash, scan};

/// Where real content is: programs and libraries compress as packages do.
const SOURCES: [&str; 3] = ["/usr/bin", "/usr/lib", "/usr/share"];
/// A heavy tail, as in a real closure: most packages are small, a few have most of the bytes.
const WEIGHTS: [u64; 32] = [
    400, 180, 90, 60, 40, 30, 25, 20, 15, 12, 10, 9, 8, 7, 6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 2, 1,
    1, 1, 1, 1, 1,
];
/// No single file may be most of the demo.
const LARGEST_FILE: u64 = 30_000_000;
/// Directories deeper than this are somebody's data.
const DEPTH: usize = 6;

#[derive(Debug, Error)]
pub enum OriginStoreError {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Path(#[from] ParseError),
    #[error("found only {0} bytes of readable files in {SOURCES:?}")]
    TooLittle(u64),
}

pub struct OriginStore {
    /// Its closure is all of them.
    pub root: StorePath,
    pub paths: Vec<(StorePath, NarHash)>,
    pub bytes: u64,
}

impl OriginStore {
    pub fn build(directory: &Path, size: u64) -> Result<Self, OriginStoreError> {
        let store = directory.join("nix/store");
        let database = directory.join("nix/var/nix/db");
        fs::create_dir_all(&store)?;
        fs::create_dir_all(&database)?;
        let connection = Connection::open(database.join("db.sqlite"))?;
        connection.execute_batch(SCHEMA)?;
        let mut files = Files::new();
        let total: u64 = WEIGHTS.iter().sum();
        let mut built = Self {
            root: StorePath::parse_base_name(PLACEHOLDER)?,
            paths: vec![],
            bytes: 0,
        };
        // The largest last: what is needed by all comes first, as a libc does.
        for (i, weight) in WEIGHTS.iter().rev().enumerate() {
            let references: Vec<StorePath> = built
                .paths
                .iter()
                .rev()
                .step_by(1 + i % 3)
                .map(|(path, _)| path.clone())
                .take(8)
                .collect();
            built.add(
                &store,
                &connection,
                &mut files,
                &format!("demo-{i:02}"),
                size * weight / total,
                references,
            )?;
        }
        if built.bytes < size / 10 {
            return Err(OriginStoreError::TooLittle(built.bytes));
        }
        let all = built.paths.iter().map(|(path, _)| path.clone()).collect();
        built.add(&store, &connection, &mut files, "demo", 0, all)?;
        if let Some((root, _)) = built.paths.last() {
            built.root = root.clone();
        }
        Ok(built)
    }

    /// Fills one package with files, gives it a name by its content, and registers it.
    fn add(
        &mut self,
        store: &Path,
        connection: &Connection,
        files: &mut Files,
        name: &str,
        size: u64,
        references: Vec<StorePath>,
    ) -> Result<(), OriginStoreError> {
        let building = store.join(".building");
        fs::create_dir(&building)?;
        let store_dir = StoreDir::default();
        let named: Vec<String> = references
            .iter()
            .map(|path| path.full(&store_dir))
            .collect();
        fs::write(building.join("references"), named.join("\n"))?;
        let mut filled = 0;
        while filled < size {
            let Some((from, length)) = files.next_file() else {
                break;
            };
            let to = building.join(from.strip_prefix("/").unwrap_or(&from));
            if let Some(parent) = to.parent() {
                fs::DirBuilder::new()
                    .recursive(true)
                    .mode(0o755)
                    .create(parent)?;
            }
            if fs::copy(&from, &to).is_ok() {
                let executable = fs::metadata(&to)?.permissions().mode() & 0o100 != 0;
                fs::set_permissions(
                    &to,
                    fs::Permissions::from_mode(if executable { 0o555 } else { 0o444 }),
                )?;
                filled += length;
            }
        }
        let layout = scan(&building)?;
        let nar_size = layout.size();
        let hash = nar_hash(layout)?;
        let mut part = [0; 20];
        part.copy_from_slice(&Sha256::digest(format!("{hash}:{name}"))[..20]);
        let path = StorePath::new(HashPart::from_bytes(part), name)?;
        fs::rename(&building, store.join(path.base_name()))?;
        connection.execute(
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?, ?, 1, ?)",
            params![
                path.full(&store_dir),
                format!("sha256:{}", hash.hex()),
                nar_size.cast_signed()
            ],
        )?;
        let id = connection.last_insert_rowid();
        for reference in &references {
            connection.execute(
                "insert into Refs (referrer, reference) select ?, id from ValidPaths where path = ?",
                params![id, reference.full(&store_dir)],
            )?;
        }
        self.paths.push((path, hash));
        self.bytes += nar_size;
        Ok(())
    }
}

/// Until the root is known.
const PLACEHOLDER: &str = "00000000000000000000000000000000-demo";

/// The tables of Nix's database (schema version 10) that a reader of valid paths uses.
const SCHEMA: &str = "
    create table ValidPaths (
        id integer primary key autoincrement not null, path text unique not null, hash text not null,
        registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
    create table Refs (
        referrer integer not null, reference integer not null, primary key (referrer, reference));";

/// Regular files of the machine, each once, breadth first.
struct Files {
    directories: VecDeque<(PathBuf, usize)>,
    files: VecDeque<(PathBuf, u64)>,
}

impl Files {
    fn new() -> Self {
        Self {
            directories: SOURCES
                .iter()
                .map(|source| (PathBuf::from(source), 0))
                .collect(),
            files: VecDeque::new(),
        }
    }

    fn next_file(&mut self) -> Option<(PathBuf, u64)> {
        while self.files.is_empty() {
            let (directory, depth) = self.directories.pop_front()?;
            let mut entries: Vec<PathBuf> = fs::read_dir(directory)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect();
            entries.sort_unstable();
            for path in entries {
                match path.symlink_metadata() {
                    Ok(metadata) if metadata.is_dir() && depth < DEPTH => {
                        self.directories.push_back((path, depth + 1))
                    }
                    Ok(metadata)
                        if metadata.is_file() && (1..LARGEST_FILE).contains(&metadata.len()) =>
                    {
                        self.files.push_back((path, metadata.len()));
                    }
                    _ => {}
                }
            }
        }
        self.files.pop_front()
    }
}

/// Makes the directories below `path` writable, so that they can be removed.
pub fn make_writable(path: &Path) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    if metadata.is_dir() {
        let _ = fs::set_permissions(path, fs::Permissions::from_mode(0o755));
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            make_writable(&entry.path());
        }
    }
}
