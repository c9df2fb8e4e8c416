//! A chroot store with Nix's database, made without Nix.

use std::fs;
use std::path::{Path, PathBuf};

use narswarm::nix::{HashPart, NarHash, StoreDir, StorePath};
use narswarm::store::{nar_hash, scan};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

/// The tables of Nix's database (schema version 10) that a reader of valid paths uses.
const SCHEMA: &str = "
    create table ValidPaths (
        id integer primary key autoincrement not null, path text unique not null, hash text not null,
        registrationTime integer not null, deriver text, narSize integer, ultimate integer, sigs text, ca text);
    create table Refs (
        referrer integer not null, reference integer not null, primary key (referrer, reference));";

pub struct ChrootStore {
    pub root: PathBuf,
    connection: Connection,
    pub paths: Vec<StoredPath>,
}

pub struct StoredPath {
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub references: Vec<StorePath>,
}

impl ChrootStore {
    pub fn create(root: &Path) -> Self {
        let database = root.join("nix/var/nix/db");
        fs::create_dir_all(root.join("nix/store")).unwrap();
        fs::create_dir_all(&database).unwrap();
        let connection = Connection::open(database.join("db.sqlite")).unwrap();
        connection.execute_batch(SCHEMA).unwrap();
        Self {
            root: root.to_owned(),
            connection,
            paths: Vec::new(),
        }
    }

    /// Adds what `fill` makes at the place that it is given.
    pub fn add(&mut self, name: &str, fill: impl FnOnce(&Path)) {
        self.add_with(name, Vec::new(), fill);
    }

    /// Notes paths in the database alone: nothing of them lies on disk.
    pub fn register<'a>(&self, paths: impl Iterator<Item = (&'a StorePath, &'a NarHash, u64)>) {
        let transaction = self.connection.unchecked_transaction().unwrap();
        for (store_path, nar_hash, nar_size) in paths {
            self.insert(store_path, nar_hash, nar_size);
        }
        transaction.commit().unwrap();
    }

    fn insert(&self, store_path: &StorePath, nar_hash: &NarHash, nar_size: u64) {
        let insert =
            "insert into ValidPaths (path, hash, registrationTime, narSize) values (?, ?, 1, ?)";
        let values = params![
            store_path.full(&StoreDir::default()),
            format!("sha256:{}", nar_hash.hex()),
            nar_size.cast_signed()
        ];
        self.connection
            .prepare_cached(insert)
            .unwrap()
            .execute(values)
            .unwrap();
    }

    /// Adds a path with references to others that are there.
    pub fn add_with(
        &mut self,
        name: &str,
        references: Vec<StorePath>,
        fill: impl FnOnce(&Path),
    ) -> StorePath {
        let store = self.root.join("nix/store");
        let building = store.join(".building");
        fill(&building);
        let layout = scan(&building).unwrap();
        let nar_size = layout.size();
        let nar_hash = nar_hash(layout).unwrap();
        let digest = Sha256::digest(format!("{nar_hash}:{name}"));
        let hash_part = HashPart::from_bytes(*digest.first_chunk().unwrap());
        let store_path = StorePath::new(hash_part, name).unwrap();
        fs::rename(&building, store.join(store_path.base_name())).unwrap();
        self.insert(&store_path, &nar_hash, nar_size);
        for reference in &references {
            let insert = "insert into Refs select a.id, b.id from ValidPaths a, ValidPaths b \
                          where a.path = ? and b.path = ?";
            let ends = [&store_path, reference].map(|path| path.full(&StoreDir::default()));
            assert_eq!(self.connection.execute(insert, ends).unwrap(), 1);
        }
        self.paths.push(StoredPath {
            store_path: store_path.clone(),
            nar_hash,
            nar_size,
            references,
        });
        store_path
    }
}
