//! Reading Nix's SQLite database without a right to write, whatever Nix does to it meanwhile.
//!
//! The database is in WAL mode, and Nix removes `-wal` and `-shm` when its last connection closes. While they exist a reader needs no
//! right to write; without them SQLite has to make them, and refuses an unprivileged reader. But then there is no
//! writer either, and the file alone is the database: it is read as immutable, for the length of one query, and the
//! answer thrown away if a writer came meanwhile.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::ErrorKind,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    thread::sleep,
    time::{Duration, Instant},
};

use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{Generation, StoreError};

/// How long SQLite waits for a lock: checkpoints of a large write-ahead log take that long.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a reading is repeated while Nix opens and closes the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub(super) struct Database {
    path: PathBuf,
    wal: PathBuf,
    journal: PathBuf,
}

/// Why a query gave nothing.
pub(super) enum QueryError {
    Sqlite(rusqlite::Error),
    /// The answer is there, and is this error.
    Final(StoreError),
}

impl From<rusqlite::Error> for QueryError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl From<StoreError> for QueryError {
    fn from(error: StoreError) -> Self {
        Self::Final(error)
    }
}

#[derive(Clone, Copy)]
enum Mode {
    /// Together with writers, through the files that they share.
    Shared,
    /// Without looking at any other file.
    Immutable,
}

impl Database {
    pub(super) fn new(path: PathBuf) -> Self {
        let beside = |suffix| {
            let mut name = OsString::from(&path);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            wal: beside("-wal"),
            journal: beside("-journal"),
            path,
        }
    }

    /// One that may not be looked at exists too: reading it says why it cannot be read.
    pub(super) fn exists(&self) -> bool {
        let found = self.path.metadata();
        !found.is_err_and(|error| error.kind() == ErrorKind::NotFound)
    }

    pub(super) fn generation(&self) -> Generation {
        Generation::of(&self.path, &self.wal)
    }

    /// Runs a query on one consistent state of the database; it may run more than once.
    pub(super) fn read<T>(
        &self,
        query: impl Fn(&Connection) -> Result<T, QueryError>,
    ) -> Result<T, StoreError> {
        let give_up = Instant::now() + PATIENCE;
        loop {
            let cause = match self.attempt(Mode::Shared, &query) {
                Ok(value) => return Ok(value),
                Err(QueryError::Final(error)) => return Err(error),
                Err(QueryError::Sqlite(error)) => error,
            };
            match cause.sqlite_error_code() {
                // What is refused to SQLite may be refused to everybody: then say it as it is.
                Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                    File::open(&self.path).map_err(StoreError::io("open", &self.path))?;
                    if let Some(answer) = self.read_immutable(&query) {
                        return answer;
                    }
                }
                Some(
                    ErrorCode::DatabaseBusy
                    | ErrorCode::DatabaseLocked
                    | ErrorCode::FileLockingProtocolFailed,
                ) => {}
                _ => return Err(self.error(cause)),
            }
            if Instant::now() >= give_up {
                return Err(self.error(cause));
            }
            sleep(PAUSE);
        }
    }

    /// `None` if a writer is at work, or came while the query ran.
    fn read_immutable<T>(
        &self,
        query: &impl Fn(&Connection) -> Result<T, QueryError>,
    ) -> Option<Result<T, StoreError>> {
        let before = self.generation();
        // With `use-sqlite-wal = false` what a killed writer left half done is in the journal.
        let half_done = fs::metadata(&self.journal).is_ok_and(|journal| journal.len() > 0);
        if half_done || !before.is_settled() {
            return None;
        }
        let answer = self.attempt(Mode::Immutable, query);
        if self.generation() != before {
            return None;
        }
        Some(answer.map_err(|error| match error {
            QueryError::Final(error) => error,
            QueryError::Sqlite(cause) => self.error(cause),
        }))
    }

    fn attempt<T>(
        &self,
        mode: Mode,
        query: &impl Fn(&Connection) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_URI
            | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(uri(&self.path, mode), flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        // One snapshot for all that the query asks.
        let transaction = connection.unchecked_transaction()?;
        let value = query(&transaction)?;
        transaction.finish()?;
        Ok(value)
    }

    fn error(&self, cause: rusqlite::Error) -> StoreError {
        StoreError::Database {
            path: self.path.clone(),
            cause,
        }
    }
}

/// SQLite's URI of a file: everything that could have a meaning in a URI is escaped.
fn uri(path: &Path, mode: Mode) -> String {
    let mut uri = String::from("file:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'/' | b'.' | b'_' | b'-' | b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => {
                uri.push(char::from(*byte));
            }
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str(match mode {
        Mode::Shared => "?mode=ro",
        Mode::Immutable => "?immutable=1",
    });
    uri
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    #[test]
    fn odd_directories_are_opened() {
        #[track_caller]
        fn case(name: &[u8]) {
            let dir = tempfile::tempdir().unwrap();
            let dir = dir.path().join(OsStr::from_bytes(name));
            fs::create_dir(&dir).unwrap();
            let path = dir.join("db.sqlite");
            let writer = Connection::open(&path);
            // SQLite's own opening takes UTF-8 only; the URI does not care.
            let Ok(writer) = writer else {
                assert!(std::str::from_utf8(name).is_err());
                return;
            };
            writer
                .execute_batch("create table t (x); insert into t values (7);")
                .unwrap();
            for mode in [Mode::Shared, Mode::Immutable] {
                let seven = Database::new(path.clone()).attempt(mode, &|connection| {
                    Ok(connection.query_row("select x from t", [], |row| row.get::<_, i64>(0))?)
                });
                assert!(matches!(seven, Ok(7)));
            }
        }
        case(b"plain");
        case(b"with space");
        case(b"what?mode=rw#x&y=%41%");
        case("größe".as_bytes());
        case(b"a\xffb");
    }

    #[test]
    fn what_is_not_a_database_is_an_error_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db.sqlite");
        let start = Instant::now();
        let fails = || {
            let nothing = Database::new(path.clone()).read(|connection| {
                Ok(connection.query_row("select * from ValidPaths", [], |_| Ok(()))?)
            });
            nothing.unwrap_err().to_string()
        };
        let message = fails();
        assert!(message.contains("db.sqlite: No such file"), "{message}");
        fs::write(&path, "x".repeat(4096)).unwrap();
        let message = fails();
        assert!(message.contains("not a database"), "{message}");
        assert!(start.elapsed() < BUSY_TIMEOUT);
    }
}
