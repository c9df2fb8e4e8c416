//! Chroot stores with real content: closures with references, files from /usr, sizes with a heavy tail.
//!
//! Building one takes a while, so it is done once, kept in `target/tmp`, and only read from then on.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    sync::OnceLock,
};

use narswarm::nix::NarHash;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Keys, Nix, shared::make_writable};

/// Where the content comes from.
const SOURCES: [&str; 2] = ["/usr/lib", "/usr/share"];
/// Larger files would be most of a closure alone.
const LARGEST_FILE: u64 = 40_000_000;
const EXPRESSION: &str = r#"
let
  make = number: references: derivation {
    name = "real-${toString number}";
    system = builtins.currentSystem;
    builder = "/bin/sh";
    PATH = "/bin:/usr/bin";
    files = builtins.readFile (LISTS + "/${toString number}");
    passAsFile = [ "files" ];
    inherit references;
    args = [ "-ec" ''
      mkdir $out
      xargs cp --parents -t $out < $filesPath
      chmod -R a+rX $out
      ln -s usr $out/link
      echo $out $references > $out/references
    '' ];
  };
  # A tree with a few more edges; 1 needs everything.
  path = number: make number (map (at: builtins.elemAt all (at - 1))
    (builtins.filter (at: at <= COUNT) [ (2 * number) (2 * number + 1) (3 * number + 2) ]));
  all = builtins.genList (index: path (index + 1)) COUNT;
in builtins.head all
"#;

/// One path as Nix knows it.
#[derive(Debug, Clone)]
pub struct InstalledPath {
    pub store_path: String,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    pub references: Vec<String>,
}

impl InstalledPath {
    pub fn hash_part(&self) -> &str {
        &self.store_path["/nix/store/".len()..][..32]
    }

    pub fn base_name(&self) -> &str {
        &self.store_path["/nix/store/".len()..]
    }

    /// The path of its narinfo in a binary cache.
    pub fn narinfo(&self) -> String {
        format!("/{}.narinfo", self.hash_part())
    }

    /// The path of its NAR at the shim.
    pub fn nar(&self) -> String {
        format!("/nar/{}-{}.nar", self.hash_part(), self.nar_hash.base32())
    }
}

pub struct Closure {
    /// The root of the chroot store.
    pub root: PathBuf,
    /// The path that needs all others.
    pub top: String,
    pub paths: Vec<InstalledPath>,
}

impl Closure {
    /// At least 60 paths and 200 MB.
    pub fn large() -> &'static Self {
        static LARGE: OnceLock<Closure> = OnceLock::new();
        LARGE.get_or_init(|| Self::build(64, 210_000_000))
    }

    /// For tests that are not about size.
    pub fn small() -> &'static Self {
        static SMALL: OnceLock<Closure> = OnceLock::new();
        SMALL.get_or_init(|| Self::build(8, 12_000_000))
    }

    /// One path of bytes that do not compress, in the store of `nix`.
    pub fn noise(nix: &Nix, bytes: u64) -> Self {
        let file = nix.work().join(format!("noise-{bytes}"));
        write_noise(&file, bytes);
        Self::add(nix, &file)
    }

    /// The same with files of so many bytes, `0`, `1` and so on.
    pub fn noise_files(nix: &Nix, files: &[u64]) -> Self {
        let directory = nix.work().join("noise-files");
        fs::create_dir(&directory).unwrap();
        for (i, bytes) in files.iter().enumerate() {
            write_noise(&directory.join(i.to_string()), *bytes);
        }
        Self::add(nix, &directory)
    }

    /// One path, a copy of `original`.
    #[track_caller]
    pub fn add(nix: &Nix, original: &Path) -> Self {
        let path = nix.on_store("nix-store", &["--add", original.to_str().unwrap()]);
        Self::read(nix, nix.root(), path)
    }

    pub fn nar_bytes(&self) -> u64 {
        self.paths.iter().map(|path| path.nar_size).sum()
    }

    pub fn path(&self, store_path: &str) -> &InstalledPath {
        self.paths
            .iter()
            .find(|path| path.store_path == store_path)
            .unwrap()
    }

    pub fn top(&self) -> &InstalledPath {
        self.path(&self.top)
    }

    /// What Nix says of `top` and all that it needs.
    pub fn read(nix: &Nix, root: PathBuf, top: String) -> Self {
        Self::read_all(nix, root, &[&top])
    }

    /// The same of several paths; `top` is the first.
    pub fn read_all(nix: &Nix, root: PathBuf, tops: &[&str]) -> Self {
        let arguments = [&["path-info", "--json", "-r"], tops].concat();
        let said = nix.on(&root, "nix", &arguments);
        let said: Vec<Value> = serde_json::from_str(&said).unwrap();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let path = |said: &Value| InstalledPath {
            store_path: text(&said["path"]),
            nar_hash: text(&said["narHash"]).parse().unwrap(),
            nar_size: said["narSize"].as_u64().unwrap(),
            references: said["references"]
                .as_array()
                .unwrap()
                .iter()
                .map(text)
                .collect(),
        };
        let paths = said.iter().map(path).collect();
        Self {
            root,
            top: tops[0].to_owned(),
            paths,
        }
    }

    /// Everything as a binary cache in `directory`, as `nix copy` makes and signs it.
    pub fn copy_to_cache(
        &self,
        nix: &Nix,
        keys: &Keys,
        options: &str,
        directory: &Path,
    ) -> PathBuf {
        self.copy(nix, keys, options, &[&self.top], directory)
    }

    /// The same of several paths.
    pub fn copy_all_to_cache(
        &self,
        nix: &Nix,
        keys: &Keys,
        tops: &[&str],
        directory: &Path,
    ) -> PathBuf {
        self.copy(nix, keys, "compression=zstd", tops, directory)
    }

    fn copy(
        &self,
        nix: &Nix,
        keys: &Keys,
        options: &str,
        tops: &[&str],
        directory: &Path,
    ) -> PathBuf {
        let (cache, secret) = (directory.display(), keys.narinfo_secret.display());
        let url = format!("file://{cache}?secret-key={secret}&{options}");
        nix.on(&self.root, "nix", &[&["copy", "--to", &url], tops].concat());
        directory.to_owned()
    }

    /// A path that `top` needs and that itself needs others: the root of a smaller closure.
    pub fn inner(&self) -> &InstalledPath {
        let references = self
            .top()
            .references
            .iter()
            .filter(|path| **path != self.top);
        let paths = references.map(|path| self.path(path));
        paths.max_by_key(|path| path.references.len()).unwrap()
    }

    fn build(count: usize, bytes: u64) -> Self {
        let nix = Nix::installed();
        let lists = lists(count, bytes);
        let digest = Sha256::digest([EXPRESSION, &lists.join("\n")].concat());
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("closures");
        fs::create_dir_all(&directory).unwrap();
        let root = directory.join(format!(
            "{count}-{}",
            data_encoding::HEXLOWER.encode(&digest[..8])
        ));
        // Another test program may be at it as well.
        let lock = File::create(root.with_extension("lock")).unwrap();
        lock.lock().unwrap();
        let top_file = root.with_extension("top");
        if !top_file.exists() {
            // /usr was another one then: nobody asks for those any more.
            remove_others(&directory, count, &root);
            fs::write(
                top_file.with_extension("new"),
                build_in(&nix, &root, &lists),
            )
            .unwrap();
            fs::rename(top_file.with_extension("new"), &top_file).unwrap();
        }
        let closure = Self::read(&nix, root, fs::read_to_string(top_file).unwrap());
        assert_eq!(closure.paths.len(), count);
        assert!(closure.nar_bytes() >= bytes);
        closure
    }
}

fn remove_others(directory: &Path, count: usize, root: &Path) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        if name.starts_with(&format!("{count}-")) && path.with_extension("") != root {
            make_writable(&path);
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    }
    // Half of one, when building it was interrupted.
    make_writable(root);
    let _ = fs::remove_dir_all(root);
}

fn build_in(nix: &Nix, root: &Path, lists: &[String]) -> String {
    let directory = nix.work().join("lists");
    fs::create_dir(&directory).unwrap();
    for (index, list) in lists.iter().enumerate() {
        fs::write(directory.join((index + 1).to_string()), list).unwrap();
    }
    let expression = EXPRESSION.replace("LISTS", directory.to_str().unwrap());
    let expression = nix.write(
        "closure.nix",
        &expression.replace("COUNT", &lists.len().to_string()),
    );
    let start = std::time::Instant::now();
    let top = nix.on(
        root,
        "nix-build",
        &["--no-out-link", "--max-jobs", "2", &expression],
    );
    let _ = writeln!(
        std::io::stderr(),
        "built {} paths in {:?}",
        lists.len(),
        start.elapsed()
    );
    top
}

/// The files of each path: path k gets 1/k of what path 1 gets.
fn lists(count: usize, bytes: u64) -> Vec<String> {
    let mut files = Vec::new();
    SOURCES
        .iter()
        .for_each(|source| walk(Path::new(source), &mut files));
    // Neighbours on disk are alike; real packages are not.
    files.sort_by_cached_key(|(path, _)| <[u8; 32]>::from(Sha256::digest(path)));
    let mut files = files.into_iter();
    let harmonic: f64 = (1..=count).map(|k| 1.0 / k as f64).sum();
    let list = |k| {
        let wanted = (bytes as f64 / harmonic / k as f64) as u64 + 1;
        let (mut text, mut taken) = (String::new(), 0);
        while taken < wanted {
            let (path, size) = files.next().expect("there is enough in /usr");
            // The path that goes over its share is left to nobody: shares stay what they are.
            if size <= wanted {
                taken += size;
                text += &path;
                text.push('\n');
            }
        }
        text
    };
    (1..=count).map(list).collect()
}

fn walk(directory: &Path, files: &mut Vec<(String, u64)>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, Ok(metadata)) = (entry.path(), entry.metadata()) else {
            continue;
        };
        if metadata.is_dir() {
            walk(&path, files);
        } else if let Some(path) = path.to_str().filter(|path| is_plain(path))
            && metadata.is_file()
            && (1..=LARGEST_FILE).contains(&metadata.len())
            && File::open(path).is_ok()
        {
            files.push((path.to_owned(), metadata.len()));
        }
    }
}

/// Without anything that xargs would take for its own.
fn is_plain(path: &str) -> bool {
    path.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte))
}

fn write_noise(file: &Path, bytes: u64) {
    let mut random = File::open("/dev/urandom").unwrap().take(bytes);
    std::io::copy(&mut random, &mut File::create(file).unwrap()).unwrap();
}
