//! A local store: where its paths lie, and what its database says about them.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, params};

use super::{
    Generation, PathInfo, StoreError,
    database::{Database, QueryError},
};
use crate::nix::{HashPart, NarHash, ParseError, Signature, StoreDir, StorePath};

/// Where the database is below the root.
const DATABASE: &str = "nix/var/nix/db/db.sqlite";

/// Beyond the largest stores known (Hydra's); a bound for memory, not for people.
const MAX_PATHS: usize = 16_000_000;

/// As many as a narinfo can have.
const MAX_REFERENCES: usize = 64 * 1024;

const COLUMNS: &str = "select id, path, hash, deriver, narSize, sigs, ca from ValidPaths";

#[derive(Debug, Clone)]
pub struct Store {
    store_dir: StoreDir,
    real_dir: PathBuf,
    database: Database,
}

impl Store {
    /// The machine's own store, or the one that `nix --store ROOT` would use. Opens nothing yet.
    pub fn open(root: Option<&Path>) -> Result<Self, StoreError> {
        let root = root.unwrap_or(Path::new("/"));
        if !root.is_absolute() {
            return Err(StoreError::Unfit {
                path: root.to_owned(),
                reason: "the root of a store must be absolute",
            });
        }
        let store_dir = StoreDir::default();
        let below_root = store_dir.as_str().trim_start_matches('/');
        Ok(Self {
            real_dir: root.join(below_root),
            database: Database::new(root.join(DATABASE)),
            store_dir,
        })
    }

    /// Whether Nix has ever used this store: until then it has no database, and nothing is installed.
    pub fn has_database(&self) -> bool {
        self.database.exists()
    }

    /// The logical one: what stands in the paths.
    pub fn store_dir(&self) -> &StoreDir {
        &self.store_dir
    }

    /// Where a path lies on disk.
    pub fn real_path(&self, path: &StorePath) -> PathBuf {
        self.real_dir.join(path.base_name())
    }

    /// The valid path with this hash part.
    pub fn path_info(&self, hash_part: &HashPart) -> Result<Option<PathInfo>, StoreError> {
        self.database.read(|connection| {
            let Some(record) = self.find(connection, *hash_part)? else {
                return Ok(None);
            };
            let references = references(connection, record.id)?;
            Ok(Some(self.info(record, &references)?))
        })
    }

    /// All of these paths, in this order; one that is not valid is an error.
    pub fn path_infos(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        self.database.read(|connection| {
            let info = |path| {
                let record = self.find_valid(connection, path)?;
                let references = references(connection, record.id)?;
                Ok(self.info(record, &references)?)
            };
            paths.iter().map(info).collect()
        })
    }

    /// These paths and everything that they refer to, ascending.
    pub fn closure(&self, paths: &[StorePath]) -> Result<Vec<PathInfo>, StoreError> {
        self.database.read(|connection| {
            let mut seen = HashSet::new();
            let mut waiting = Vec::new();
            for path in paths {
                let id = self.find_valid(connection, path)?.id;
                if seen.insert(id) {
                    waiting.push(id);
                }
            }
            let mut infos = Vec::new();
            while let Some(id) = waiting.pop() {
                let references = references(connection, id)?;
                for reference in &references {
                    if seen.insert(reference.id) {
                        waiting.push(reference.id);
                    }
                }
                bounded("paths in a closure", seen.len(), MAX_PATHS)?;
                infos.push(self.info(record(connection, id)?, &references)?);
            }
            infos.sort_unstable_by(|a, b| a.store_path.cmp(&b.store_path));
            Ok(infos)
        })
    }

    /// Every valid path by hash part, in one reading. Records that cannot be offered anyway (not SHA-256) are left out.
    pub fn valid_hashes(&self) -> Result<Vec<(HashPart, NarHash)>, StoreError> {
        self.database.read(|connection| {
            let mut statement = connection.prepare("select path, hash from ValidPaths")?;
            let mut rows = statement.query([])?;
            let mut hashes = Vec::new();
            while let Some(row) = rows.next()? {
                let path = row.get_ref(0)?.as_str().unwrap_or_default();
                let hash = row.get_ref(1)?.as_str().unwrap_or_default();
                if let (Some(part), Ok(hash)) = (self.hash_part_in(path), hash.parse()) {
                    hashes.push((part, hash));
                    bounded("valid paths", hashes.len(), MAX_PATHS)?;
                }
            }
            Ok(hashes)
        })
    }

    /// Changes whenever the database does; two stats.
    pub fn generation(&self) -> Generation {
        self.database.generation()
    }

    fn hash_part_in(&self, path: &str) -> Option<HashPart> {
        let base_name = path
            .strip_prefix(self.store_dir.as_str())?
            .strip_prefix('/')?;
        base_name.get(..HashPart::DIGITS)?.parse().ok()
    }

    fn find(&self, connection: &Connection, part: HashPart) -> Result<Option<Record>, QueryError> {
        let prefix = format!("{}/{part}-", self.store_dir);
        let record = connection
            .prepare_cached(&format!("{COLUMNS} where path >= ?1 order by path limit 1"))?
            .query_row(params![prefix], Record::new)
            .optional()?;
        Ok(record.filter(|record| record.path.starts_with(&prefix)))
    }

    fn find_valid(&self, connection: &Connection, path: &StorePath) -> Result<Record, QueryError> {
        let full = path.full(&self.store_dir);
        let record = connection
            .prepare_cached(&format!("{COLUMNS} where path = ?1"))?
            .query_row(params![full], Record::new)
            .optional()?;
        record.ok_or_else(|| {
            let store = self.real_dir.clone();
            QueryError::Final(StoreError::NotValid { path: full, store })
        })
    }

    fn info(&self, record: Record, references: &[Reference]) -> Result<PathInfo, StoreError> {
        let path = record.path.clone();
        record
            .into_info(&self.store_dir, references)
            .map_err(|cause| StoreError::Record { path, cause })
    }
}

fn record(connection: &Connection, id: i64) -> Result<Record, QueryError> {
    let record = connection
        .prepare_cached(&format!("{COLUMNS} where id = ?1"))?
        .query_row(params![id], Record::new)?;
    Ok(record)
}

fn references(connection: &Connection, referrer: i64) -> Result<Vec<Reference>, QueryError> {
    let mut statement = connection.prepare_cached(
        "select id, path from Refs join ValidPaths on id = reference where referrer = ?1",
    )?;
    let mut rows = statement.query(params![referrer])?;
    let mut references = Vec::new();
    while let Some(row) = rows.next()? {
        references.push(Reference {
            id: row.get(0)?,
            path: row.get(1)?,
        });
        bounded("references of a path", references.len(), MAX_REFERENCES)?;
    }
    Ok(references)
}

fn bounded(what: &'static str, count: usize, limit: usize) -> Result<(), StoreError> {
    if count > limit {
        return Err(StoreError::TooMany { what, limit });
    }
    Ok(())
}

struct Reference {
    id: i64,
    path: String,
}

/// A row of ValidPaths as it stands there.
struct Record {
    id: i64,
    path: String,
    hash: String,
    deriver: Option<String>,
    nar_size: Option<i64>,
    signatures: Option<String>,
    ca: Option<String>,
}

impl Record {
    fn new(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            path: row.get(1)?,
            hash: row.get(2)?,
            deriver: row.get(3)?,
            nar_size: row.get(4)?,
            signatures: row.get(5)?,
            ca: row.get(6)?,
        })
    }

    fn into_info(self, dir: &StoreDir, references: &[Reference]) -> Result<PathInfo, ParseError> {
        let parse = |path: &String| StorePath::parse(dir, path);
        let said = |text: Option<String>| text.filter(|text| !text.is_empty());
        let mut references: Vec<StorePath> = references
            .iter()
            .map(|reference| parse(&reference.path))
            .collect::<Result<_, _>>()?;
        references.sort_unstable();
        references.dedup();
        let signatures = self.signatures.unwrap_or_default();
        Ok(PathInfo {
            store_path: parse(&self.path)?,
            nar_hash: self.hash.parse()?,
            nar_size: self
                .nar_size
                .and_then(|size| size.try_into().ok())
                .unwrap_or(0),
            references,
            deriver: said(self.deriver).as_ref().map(parse).transpose()?,
            // One that is broken is one that does not verify.
            signatures: signatures
                .split_ascii_whitespace()
                .filter_map(|text| text.parse::<Signature>().ok())
                .collect(),
            ca: said(self.ca),
        })
    }
}
