//! Nix's database as an agent without rights sees it, whatever Nix is doing.
//!
//! The parent is root, makes a database and writes to it; the child is this same program as `nobody`.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

#[path = "lab/mod.rs"]
mod lab;

use std::{
    env,
    fs::{self, File, Permissions},
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use lab::Need;
use narswarm::{
    nix::{HashPart, StorePath, nar::Limits},
    store::{NarReader, Store, StoreError, restore, scan},
};
use rusqlite::Connection;
use tempfile::TempDir;

const NOBODY: u32 = 65534;
const ROOT: &str = "NARSWARM_TEST_ROOT";
const TASK: &str = "NARSWARM_TEST_TASK";

/// How long reader and writer work against each other.
const CONTEST: Duration = Duration::from_secs(4);

/// Nix's schema, as far as it matters here.
const SCHEMA: &str = "
    pragma journal_mode = wal;
    create table ValidPaths (
        id integer primary key autoincrement not null, path text unique not null,
        hash text not null, registrationTime integer not null, deriver text,
        narSize integer, ultimate integer, sigs text, ca text
    );
    create table Refs (
        referrer integer not null, reference integer not null, primary key (referrer, reference)
    );
";

struct Fixture {
    dir: TempDir,
}

impl Fixture {
    /// `None`, said plainly, for who is not root.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        if !Need::all(
            "store_unprivileged",
            &[Need::Root, Need::Program("setpriv")],
        ) {
            return None;
        }
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        let fixture = Self { dir };
        fs::create_dir_all(fixture.database().parent().unwrap()).unwrap();
        Some(fixture)
    }

    fn database(&self) -> PathBuf {
        database(self.dir.path())
    }

    fn connect(&self) -> Connection {
        let connection = Connection::open(self.database()).unwrap();
        connection.busy_timeout(Duration::from_secs(60)).unwrap();
        connection
    }

    fn create(&self) -> Connection {
        let connection = self.connect();
        connection.execute_batch(SCHEMA).unwrap();
        connection
    }

    fn files(&self) -> Vec<String> {
        let mut files: Vec<String> = fs::read_dir(self.database().parent().unwrap())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        files
    }

    /// What the child prints.
    #[track_caller]
    fn as_nobody(&self, task: &str) -> String {
        // Where the program was built nobody may not be allowed to go.
        let program = self.dir.path().join("program");
        if !program.exists() {
            // By another process: what this one has open for writing while another test forks, nobody can run.
            let mut copy = Command::new("cp");
            let copied = copy.arg(env::current_exe().unwrap()).arg(&program).status();
            assert!(copied.unwrap().success());
        }
        let id = NOBODY.to_string();
        let output = Command::new("setpriv")
            .args(["--reuid", &id, "--regid", &id, "--clear-groups"])
            .arg(&program)
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(ROOT, self.dir.path())
            .env(TASK, task)
            .current_dir("/")
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}{errors}");
        let line = text
            .lines()
            .find_map(|line| line.split_once("SAYS "))
            .unwrap();
        line.1.to_owned()
    }
}

fn database(root: &Path) -> PathBuf {
    root.join("nix/var/nix/db/db.sqlite")
}

fn path(number: u64) -> StorePath {
    let mut bytes = [0; 20];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    StorePath::new(HashPart::from_bytes(bytes), "path").unwrap()
}

/// Two paths that refer to each other, in one transaction: whoever sees one must see the other.
fn insert_pair(connection: &mut Connection, pair: u64) {
    let transaction = connection.transaction().unwrap();
    let ids = [2 * pair, 2 * pair + 1].map(|number| {
        let sql =
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?1, ?2, 0, 1)";
        let full = format!("/nix/store/{}", path(number));
        let hash = format!("sha256:{}", "ab".repeat(32));
        transaction.execute(sql, [full, hash]).unwrap();
        transaction.last_insert_rowid()
    });
    for (referrer, reference) in [(ids[0], ids[1]), (ids[1], ids[0])] {
        transaction
            .execute("insert into Refs values (?1, ?2)", [referrer, reference])
            .unwrap();
    }
    transaction.commit().unwrap();
}

/// Runs as nobody, started by the tests below.
#[test]
#[ignore = "no test but the reader of others; run as nobody by nobody_holds_the_database, \
            an_idle_writer_holds_the_database, a_writer_was_killed, root_read_before, unpacking_without_rights, \
            a_writer_stays, writers_come_and_go, writers_come_and_go_without_rest, a_database_that_nobody_may_read"]
fn child() {
    let (Ok(root), Ok(task)) = (env::var(ROOT), env::var(TASK)) else {
        return;
    };
    let store = Store::open(Some(Path::new(&root))).unwrap();
    let intruder = database(Path::new(&root)).with_file_name("intruder");
    let refused = File::create(intruder).unwrap_err().kind();
    assert_eq!(refused, io::ErrorKind::PermissionDenied);
    let says = match task.as_str() {
        "count" => store.valid_hashes().unwrap().len().to_string(),
        "fail" => {
            let start = Instant::now();
            let error: StoreError = store.valid_hashes().unwrap_err();
            assert!(start.elapsed() < Duration::from_secs(1));
            error.to_string()
        }
        "contest" => contest(&store),
        "restore" => unpack(&Path::new(&root).join("open")),
        _ => unreachable!("no such task: {task}"),
    };
    println!("SAYS {says}");
}

/// Unpacks, and unpacks what is cut, where read-only directories are an obstacle.
fn unpack(dir: &Path) -> String {
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("a/b")).unwrap();
    fs::write(tree.join("a/b/c"), "words").unwrap();
    fs::write(tree.join("z"), "words").unwrap();
    let mut nar = Vec::new();
    let reader = NarReader::open(scan(&tree).unwrap()).read_to_end(&mut nar);
    reader.unwrap();
    let limits = Limits::default();
    restore(&nar[..nar.len() - 8], &dir.join("cut"), &limits).unwrap_err();
    restore(nar.as_slice(), &dir.join("copy"), &limits).unwrap();
    let before = fs::read_dir(dir).unwrap().count();
    // It fails at the very end, when the directories are read-only already.
    let error = restore(
        FillsUp(nar.as_slice(), dir.join("late")),
        &dir.join("late"),
        &limits,
    );
    assert!(matches!(error, Err(StoreError::Exists(_))), "{error:?}");
    assert_eq!(fs::read_dir(dir).unwrap().count(), before + 1);
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.join(" ")
}

/// Somebody else makes the destination while the NAR is read.
struct FillsUp<'a>(&'a [u8], PathBuf);

impl Read for FillsUp<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let _ = fs::write(&self.1, "in the way");
        self.0.read(buffer)
    }
}

/// Reads as fast as it can; each answer has to be a whole one and not older than the one before.
fn contest(store: &Store) -> String {
    let start = Instant::now();
    let (mut reads, mut last, mut slowest) = (0, 0, Duration::ZERO);
    while start.elapsed() < CONTEST {
        let reading = Instant::now();
        let seen = store.valid_hashes().unwrap().len();
        assert!(
            seen.is_multiple_of(2) && seen >= last,
            "{last}, then {seen}"
        );
        let newest = path(seen as u64 - 1);
        assert_eq!(
            store.closure(std::slice::from_ref(&newest)).unwrap().len(),
            2
        );
        let info = store.path_info(&newest.hash_part()).unwrap().unwrap();
        assert_eq!(info.references, [path(seen as u64 - 2)]);
        slowest = slowest.max(reading.elapsed());
        last = seen;
        reads += 1;
    }
    format!("{reads} reads, up to {last} paths, slowest {slowest:?}")
}

#[test]
fn nobody_holds_the_database() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut writer = fixture.create();
    for pair in 0..50 {
        insert_pair(&mut writer, pair);
    }
    drop(writer);
    assert_eq!(fixture.files(), ["db.sqlite"]);
    assert_eq!(fixture.as_nobody("count"), "100");
    assert_eq!(fixture.files(), ["db.sqlite"]);
}

#[test]
fn an_idle_writer_holds_the_database() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut writer = fixture.create();
    insert_pair(&mut writer, 0);
    assert_eq!(
        fixture.files(),
        ["db.sqlite", "db.sqlite-shm", "db.sqlite-wal"]
    );
    assert_eq!(fixture.as_nobody("count"), "2");
    // What is only in the log so far.
    insert_pair(&mut writer, 1);
    assert_eq!(fixture.as_nobody("count"), "4");
}

#[test]
fn a_writer_was_killed() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut writer = fixture.create();
    insert_pair(&mut writer, 0);
    let Some(left) = Fixture::new() else { return };
    for name in fixture.files() {
        let from = fixture.database().with_file_name(&name);
        fs::copy(from, left.database().with_file_name(&name)).unwrap();
    }
    assert_eq!(left.as_nobody("count"), "2");
    // Root's own reading does not get in nobody's way either.
    let store = Store::open(Some(left.dir.path())).unwrap();
    assert_eq!(store.valid_hashes().unwrap().len(), 2);
    assert_eq!(left.as_nobody("count"), "2");
}

#[test]
fn root_read_before() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let mut writer = fixture.create();
    insert_pair(&mut writer, 0);
    drop(writer);
    let store = Store::open(Some(fixture.dir.path())).unwrap();
    assert_eq!(store.valid_hashes().unwrap().len(), 2);
    println!("root's reading left {:?}", fixture.files());
    assert_eq!(fixture.as_nobody("count"), "2");
    let mut writer = fixture.connect();
    insert_pair(&mut writer, 1);
    assert_eq!(fixture.as_nobody("count"), "4");
}

struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn unpacking_without_rights() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    let open = fixture.dir.path().join("open");
    fs::create_dir(&open).unwrap();
    fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(fixture.as_nobody("restore"), "copy late tree");
}

/// `stay` is how many pairs a connection writes before it closes: at 1 `-wal` comes and goes all the time.
#[track_caller]
fn against_a_writer(stay: u64, pause: Duration) {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    insert_pair(&mut fixture.create(), 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        // However the reading ends, the writer has to.
        let stop = Stop(&done);
        let written = scope.spawn(|| {
            let mut pair = 1;
            while !done.load(Ordering::Relaxed) {
                let mut writer = fixture.connect();
                for _ in 0..stay {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    insert_pair(&mut writer, pair);
                    pair += 1;
                    thread::sleep(pause);
                }
                drop(writer);
                thread::sleep(pause);
            }
            2 * pair
        });
        let says = fixture.as_nobody("contest");
        drop(stop);
        println!(
            "{stay} a time, {pause:?} between: wrote {} paths; {says}",
            written.join().unwrap()
        );
        let reads: u64 = says.split(' ').next().unwrap().parse().unwrap();
        assert!(reads >= 10, "{says}");
    });
}

#[test]
fn a_writer_stays() {
    against_a_writer(u64::MAX >> 8, Duration::from_millis(1));
}

#[test]
fn writers_come_and_go() {
    against_a_writer(1, Duration::from_millis(60));
}

#[test]
fn writers_come_and_go_without_rest() {
    against_a_writer(20, Duration::from_micros(500));
}

#[test]
fn a_database_that_nobody_may_read() {
    let Some(fixture) = Fixture::new() else {
        return;
    };
    insert_pair(&mut fixture.create(), 0);
    let database = fixture.database();
    fs::set_permissions(&database, Permissions::from_mode(0o600)).unwrap();
    let said = fixture.as_nobody("fail");
    assert!(said.contains("db.sqlite: Permission denied"), "{said}");
    fs::set_permissions(&database, Permissions::from_mode(0o644)).unwrap();
    let parent = database.parent().unwrap();
    fs::set_permissions(parent, Permissions::from_mode(0o700)).unwrap();
    let said = fixture.as_nobody("fail");
    assert!(said.contains("db.sqlite: Permission denied"), "{said}");
}
