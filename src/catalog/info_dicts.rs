//! Info dicts kept on disk: computing one means encoding a whole NAR, and a magnet needs it before the first byte.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OptionalExtension, params};
use thiserror::Error;

use crate::torrent::{InfoDict, InfoHash};

/// The layout of the table; another number is another program's file.
const VERSION: i64 = 1;
/// Publisher and seedbox may share one file; writes take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// Looked at, and perhaps forgotten, at a time: some milliseconds for which whoever serves may have to wait.
const FORGOTTEN_AT_A_TIME: usize = 500;

#[derive(Debug, Error)]
#[error("info dicts in {path}: {source}")]
pub struct InfoDictsError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Keyed by info hash, and by the payload's name (which is its NarHash) for a publisher that resumes.
pub struct InfoDicts {
    path: PathBuf,
    /// None while the file cannot be opened or begun anew: the next one to ask tries again.
    connection: Mutex<Option<Connection>>,
}

impl InfoDicts {
    /// A file that is damaged is put aside: whoever needs what was in it computes it again.
    pub fn open(path: &Path) -> Result<Self, InfoDictsError> {
        let connection = open_or_begin_anew(path).map_err(|source| InfoDictsError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(Some(connection)),
        })
    }

    /// To be opened when it is first needed.
    pub fn closed(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            connection: Mutex::default(),
        }
    }

    pub fn get(&self, info_hash: &InfoHash) -> Result<Option<InfoDict>, InfoDictsError> {
        let query = "select dict from info_dicts where info_hash = ?";
        let dict = self.with(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            statement
                .query_row([info_hash.as_bytes().as_slice()], |row| {
                    row.get::<_, Vec<u8>>(0)
                })
                .optional()
        })?;
        // A dict that no longer has its hash is damage: it is as good as absent, and written anew.
        let dict = dict.filter(|dict| InfoHash::of(dict) == *info_hash);
        Ok(dict.and_then(|dict| InfoDict::decode(&dict).ok()))
    }

    /// Whether there is one; what it says is looked at when it is used.
    pub fn has(&self, info_hash: &InfoHash) -> Result<bool, InfoDictsError> {
        let query = "select 1 from info_dicts where info_hash = ?";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            statement.exists([info_hash.as_bytes().as_slice()])
        })
    }

    /// The dicts of payloads with this name; several when encoders changed.
    pub fn named(&self, name: &str) -> Result<Vec<InfoDict>, InfoDictsError> {
        let query = "select dict from info_dicts where name = ?";
        let rows = self.with(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map([name], |row| row.get::<_, Vec<u8>>(0))?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        Ok(rows
            .iter()
            .filter_map(|dict| InfoDict::decode(dict).ok())
            .collect())
    }

    pub fn put(&self, info: &InfoDict) -> Result<(), InfoDictsError> {
        let dict = info.encode();
        let info_hash = InfoHash::of(&dict);
        let put = "insert or replace into info_dicts (info_hash, name, dict) values (?, ?, ?)";
        self.with(|connection| {
            let mut statement = connection.prepare_cached(put)?;
            statement.execute(params![info_hash.as_bytes().as_slice(), info.name, dict])
        })?;
        Ok(())
    }

    pub fn count(&self) -> Result<u64, InfoDictsError> {
        let query = "select count(*) from info_dicts";
        let count: i64 = self.with(|c| c.query_row(query, [], |row| row.get(0)))?;
        Ok(count as u64)
    }

    /// Looks at some of them, in the order of their info hashes and beyond `after`, and lets those go that are not
    /// `needed`. Returns how far it came; `None` when it has seen all.
    pub fn forget_some(
        &self,
        after: Option<InfoHash>,
        needed: impl Fn(&InfoHash) -> bool,
    ) -> Result<Option<InfoHash>, InfoDictsError> {
        let query =
            "select info_hash from info_dicts where info_hash > ? order by info_hash limit ?";
        let after = after.map_or(vec![], |after| after.as_bytes().to_vec());
        let seen = self.with(|connection| {
            let mut statement = connection.prepare_cached(query)?;
            let rows = statement.query_map(params![after, FORGOTTEN_AT_A_TIME as i64], |row| {
                row.get(0).map(InfoHash::from_bytes)
            })?;
            rows.collect::<Result<Vec<_>, _>>()
        })?;
        let unneeded: Vec<&InfoHash> = seen.iter().filter(|hash| !needed(hash)).collect();
        if !unneeded.is_empty() {
            self.with(|connection| {
                let transaction = connection.unchecked_transaction()?;
                let mut statement =
                    connection.prepare_cached("delete from info_dicts where info_hash = ?")?;
                for info_hash in &unneeded {
                    statement.execute([info_hash.as_bytes().as_slice()])?;
                }
                transaction.commit()
            })?;
        }
        Ok(seen.last().copied())
    }

    /// Damage may lie where nobody has read yet: then the file is put aside, and the work done again without it. SQLite does
    /// not notice by itself that a file may be written again.
    fn with<T>(
        &self,
        work: impl Fn(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, InfoDictsError> {
        let mut open = self.lock();
        let mut attempt = || {
            let connection = match open.take() {
                Some(connection) => connection,
                None => open_or_begin_anew(&self.path)?,
            };
            let error = match work(&connection) {
                Err(error) if is_damage(&error) || is_read_only(&error) => error,
                done => {
                    *open = Some(connection);
                    return done;
                }
            };
            // Its files are let go of before they are moved.
            drop(connection);
            let connection = match is_damage(&error) {
                true => begin_anew(&self.path, &error)?,
                false => connect(&self.path)?,
            };
            work(open.insert(connection))
        };
        attempt().map_err(|source| InfoDictsError {
            path: self.path.clone(),
            source,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Connection>> {
        self.connection.lock().unwrap_or_else(|e| e.into_inner())
    }
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // All of it can be computed again: a power cut may cost the newest entries, never the file.
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        connection.execute_batch(&format!(
            "drop table if exists info_dicts;
             create table info_dicts (info_hash blob primary key, name text not null, dict blob not null) without rowid;
             create index info_dicts_by_name on info_dicts (name);
             pragma user_version = {VERSION};"
        ))?;
    }
    Ok(connection)
}

fn is_damage(error: &rusqlite::Error) -> bool {
    let code = error.sqlite_error_code();
    code.is_some_and(|code| matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

fn is_read_only(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::ReadOnly)
}

fn open_or_begin_anew(path: &Path) -> rusqlite::Result<Connection> {
    connect(path).or_else(|error| match is_damage(&error) {
        true => begin_anew(path, &error),
        false => Err(error),
    })
}

/// Without the damaged file, whose bytes may still be of use to a person.
fn begin_anew(path: &Path, error: &rusqlite::Error) -> rusqlite::Result<Connection> {
    tracing::warn!(path = %path.display(), %error, "the info dicts begin anew");
    // When it cannot be moved, opening it fails as before.
    let _ = fs::rename(path, path.with_extension("damaged"));
    for suffix in ["-wal", "-shm"] {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        let _ = fs::remove_file(beside);
    }
    connect(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dicts_survive_a_restart_and_damage_is_absence() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("info.sqlite");
        let info = InfoDict {
            name: "x.nar.zst".into(),
            length: 5,
            piece_length: 262_144,
            pieces: vec![[1; 20]],
            frames: Some(vec![5]),
        };
        let info_hash = info.info_hash();
        InfoDicts::open(&path).unwrap().put(&info).unwrap();
        let dicts = InfoDicts::open(&path).unwrap();
        assert_eq!(dicts.get(&info_hash).unwrap(), Some(info.clone()));
        assert_eq!(
            dicts.named("x.nar.zst").unwrap(),
            std::slice::from_ref(&info)
        );
        dicts
            .with(|dicts| dicts.execute("update info_dicts set dict = x'6465'", []))
            .unwrap();
        assert_eq!(dicts.get(&info_hash).unwrap(), None);
        dicts.put(&info).unwrap();
        assert_eq!(dicts.get(&info_hash).unwrap(), Some(info));
    }

    #[test]
    fn a_damaged_file_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let (path, aside) = (
            directory.path().join("info.sqlite"),
            directory.path().join("info.damaged"),
        );
        fs::write(&path, "not a database, but long enough to be looked at").unwrap();
        let dicts = InfoDicts::open(&path).unwrap();
        assert!(aside.exists());
        // Damage behind the first page, which opening does not read.
        let info = |i: u32| InfoDict {
            name: format!("{i}.nar.zst"),
            length: 5,
            piece_length: 262_144,
            pieces: vec![[1; 20]; 1],
            frames: Some(vec![5]),
        };
        (0..500).for_each(|i| dicts.put(&info(i)).unwrap());
        drop(dicts);
        let mut bytes = fs::read(&path).unwrap();
        bytes[4096..].fill(0xff);
        fs::write(&path, bytes).unwrap();
        let dicts = InfoDicts::open(&path).unwrap();
        assert_eq!(dicts.get(&info(7).info_hash()).unwrap(), None);
        dicts.put(&info(7)).unwrap();
        assert_eq!(dicts.get(&info(7).info_hash()).unwrap(), Some(info(7)));
    }

    #[test]
    fn what_is_not_needed_is_forgotten_in_steps() {
        let directory = tempfile::tempdir().unwrap();
        let dicts = InfoDicts::open(&directory.path().join("info.sqlite")).unwrap();
        let total = 2 * FORGOTTEN_AT_A_TIME + 100;
        let info = |i: usize| InfoDict {
            name: format!("{i}.nar.zst"),
            length: 5,
            piece_length: 262_144,
            pieces: vec![[1; 20]],
            frames: Some(vec![5]),
        };
        (0..total).for_each(|i| dicts.put(&info(i)).unwrap());
        assert_eq!(dicts.count().unwrap(), total as u64);
        let needed = [3, 7, total - 1].map(|i| info(i).info_hash());
        let (mut steps, mut after) = (0, None);
        loop {
            after = dicts
                .forget_some(after, |hash| needed.contains(hash))
                .unwrap();
            if after.is_none() {
                break;
            }
            steps += 1;
        }
        assert_eq!((steps, dicts.count().unwrap()), (3, 3));
        assert!(needed.iter().all(|hash| dicts.has(hash).unwrap()));
        // One that is needed again is put again.
        dicts.put(&info(5)).unwrap();
        assert_eq!(dicts.named("5.nar.zst").unwrap(), [info(5)]);
    }
}
