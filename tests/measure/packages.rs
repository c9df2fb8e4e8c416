//! Real content: the files of installed Debian packages, each package planned as one NAR and read where it lies.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use narswarm::nix::nar::{Layout, LayoutBuilder};
use narswarm::store::NarReader;
use sha2::{Digest, Sha256};

/// What dpkg has unpacked, a list per package.
const LISTS: &str = "/var/lib/dpkg/info";
/// One package must not be most of the sample (kubectl has 400 MB).
const LARGEST: u64 = 64_000_000;

pub struct Package {
    pub name: String,
    layout: Arc<Layout>,
}

impl Package {
    pub fn nar_size(&self) -> u64 {
        self.layout.size()
    }

    pub fn nar(&self) -> Vec<u8> {
        let mut nar = Vec::with_capacity(self.nar_size() as usize);
        let mut reader = NarReader::open(self.layout.clone());
        reader.read_to_end(&mut nar).unwrap();
        nar
    }
}

/// Packages with NARs of about `bytes` in all, picked by the hash of their names: any machine picks among what it has.
pub fn sample(bytes: u64) -> Vec<Package> {
    let mut lists = lists();
    lists.sort_by_key(|(name, _)| <[u8; 32]>::from(Sha256::digest(name)));
    let mut packages = Vec::new();
    let mut total = 0;
    for (name, list) in lists {
        if total >= bytes {
            break;
        }
        let layout = plan(&list);
        if (1..=LARGEST).contains(&layout.size()) {
            total += layout.size();
            let layout = Arc::new(layout);
            packages.push(Package { name, layout });
        }
    }
    packages
}

/// Regular files of packages, from `smallest` to `largest` bytes, in the order of the packages' hashes.
pub fn files(smallest: u64, largest: u64) -> impl Iterator<Item = PathBuf> {
    let mut lists = lists();
    lists.sort_by_key(|(name, _)| <[u8; 32]>::from(Sha256::digest(name)));
    let paths = lists.into_iter().flat_map(|(_, list)| paths(&list));
    paths.filter(move |path| {
        let metadata = path.symlink_metadata();
        metadata.is_ok_and(|m| m.is_file() && (smallest..=largest).contains(&m.len()))
    })
}

/// Packages and their lists of files.
fn lists() -> Vec<(String, PathBuf)> {
    let directory = fs::read_dir(LISTS).unwrap_or_else(|error| {
        panic!("the sample is made of installed Debian packages, and {LISTS} says: {error}")
    });
    let files = directory.map(|file| file.unwrap().path());
    let lists = files.filter(|path| path.extension().is_some_and(|e| e == "list"));
    let named = lists.map(|path| {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        // `libc6:amd64.list`
        let name = stem.split(':').next().unwrap_or_default().to_owned();
        (name, path)
    });
    named.collect()
}

fn paths(list: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(list).unwrap_or_default();
    text.lines().map(PathBuf::from).collect()
}

#[derive(Default)]
struct Tree(BTreeMap<Vec<u8>, Tree>);

fn plan(list: &Path) -> Layout {
    let mut tree = Tree::default();
    for path in paths(list) {
        let mut at = &mut tree;
        for component in path.components() {
            if let Component::Normal(name) = component {
                at = at.0.entry(name.as_bytes().to_vec()).or_default();
            }
        }
    }
    let mut builder = LayoutBuilder::new(PathBuf::from("/"));
    builder.open_directory(b"").unwrap();
    add(&mut builder, &tree, Path::new("/"));
    builder.close_directory();
    builder.finish()
}

/// What is listed and still there. `/lib` may be a symlink today: whatever has entries counts as a directory.
fn add(builder: &mut LayoutBuilder, tree: &Tree, directory: &Path) {
    for (name, below) in &tree.0 {
        let path = directory.join(std::ffi::OsStr::from_bytes(name));
        let Ok(metadata) = path.symlink_metadata() else {
            continue;
        };
        if metadata.is_dir() || !below.0.is_empty() {
            builder.open_directory(name).unwrap();
            add(builder, below, &path);
            builder.close_directory();
        } else if metadata.is_symlink() {
            let target = fs::read_link(&path).unwrap();
            builder
                .symlink(name, target.as_os_str().as_bytes())
                .unwrap();
        } else if metadata.is_file() && fs::File::open(&path).is_ok() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            builder.regular(name, executable, metadata.len()).unwrap();
        }
    }
}
