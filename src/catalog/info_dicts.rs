//! Info dicts kept on disk: computing one means encoding a whole NAR, and a magnet needs it before the first byte.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, params};
use thiserror::Error;

use crate::torrent::{InfoDict, InfoHash};

/// The layout of the table; another number is another program's file.
const VERSION: i64 = 1;
/// Publisher and seedbox may share one file; writes take milliseconds.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Error)]
#[error("info dicts in {path}: {source}")]
pub struct InfoDictsError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// Keyed by info hash, and by the payload's name (which is its NarHash) for a publisher that resumes.
pub struct InfoDicts {
    path: PathBuf,
    connection: Mutex<Connection>,
}

impl InfoDicts {
    pub fn open(path: &Path) -> Result<Self, InfoDictsError> {
        let at = |source| InfoDictsError {
            path: path.to_owned(),
            source,
        };
        let connection = Connection::open(path).map_err(at)?;
        connection.busy_timeout(BUSY_TIMEOUT).map_err(at)?;
        // All of it can be computed again: a power cut may cost the newest entries, never the file.
        connection
            .pragma_update(None, "journal_mode", "WAL")
            .map_err(at)?;
        connection
            .pragma_update(None, "synchronous", "NORMAL")
            .map_err(at)?;
        let version: i64 = connection
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(at)?;
        if version != VERSION {
            connection
                .execute_batch(&format!(
                    "drop table if exists info_dicts;
                     create table info_dicts (info_hash blob primary key, name text not null, dict blob not null) without rowid;
                     create index info_dicts_by_name on info_dicts (name);
                     pragma user_version = {VERSION};"
                ))
                .map_err(at)?;
        }
        Ok(Self {
            path: path.to_owned(),
            connection: Mutex::new(connection),
        })
    }

    pub fn get(&self, info_hash: &InfoHash) -> Result<Option<InfoDict>, InfoDictsError> {
        let query = "select dict from info_dicts where info_hash = ?";
        let found = self.lock().prepare_cached(query).and_then(|mut statement| {
            statement
                .query_row([info_hash.as_bytes().as_slice()], |row| {
                    row.get::<_, Vec<u8>>(0)
                })
                .optional()
        });
        // A dict that no longer has its hash is damage: it is as good as absent, and written anew.
        let dict = found
            .map_err(|source| self.error(source))?
            .filter(|dict| InfoHash::of(dict) == *info_hash);
        Ok(dict.and_then(|dict| InfoDict::decode(&dict).ok()))
    }

    /// Whether there is one; what it says is looked at when it is used.
    pub fn has(&self, info_hash: &InfoHash) -> Result<bool, InfoDictsError> {
        let query = "select 1 from info_dicts where info_hash = ?";
        let found = self
            .lock()
            .prepare_cached(query)
            .and_then(|mut statement| statement.exists([info_hash.as_bytes().as_slice()]));
        found.map_err(|source| self.error(source))
    }

    /// The dicts of payloads with this name; several when encoders changed.
    pub fn named(&self, name: &str) -> Result<Vec<InfoDict>, InfoDictsError> {
        let query = "select dict from info_dicts where name = ?";
        let rows = self.lock().prepare_cached(query).and_then(|mut statement| {
            statement
                .query_map([name], |row| row.get::<_, Vec<u8>>(0))?
                .collect::<Result<Vec<_>, _>>()
        });
        let rows = rows.map_err(|source| self.error(source))?;
        Ok(rows
            .iter()
            .filter_map(|dict| InfoDict::decode(dict).ok())
            .collect())
    }

    pub fn put(&self, info: &InfoDict) -> Result<(), InfoDictsError> {
        let dict = info.encode();
        let put = "insert or replace into info_dicts (info_hash, name, dict) values (?, ?, ?)";
        self.lock()
            .prepare_cached(put)
            .and_then(|mut statement| {
                statement.execute(params![
                    InfoHash::of(&dict).as_bytes().as_slice(),
                    info.name,
                    dict
                ])
            })
            .map_err(|source| self.error(source))?;
        Ok(())
    }

    fn error(&self, source: rusqlite::Error) -> InfoDictsError {
        InfoDictsError {
            path: self.path.clone(),
            source,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(|e| e.into_inner())
    }
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
            .lock()
            .execute("update info_dicts set dict = x'6465'", [])
            .unwrap();
        assert_eq!(dicts.get(&info_hash).unwrap(), None);
        dicts.put(&info).unwrap();
        assert_eq!(dicts.get(&info_hash).unwrap(), Some(info));
    }
}
