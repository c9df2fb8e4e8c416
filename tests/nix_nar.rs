//! Our NARs are Nix's NARs, byte for byte, in both directions.

#![allow(clippy::unwrap_used, reason = "a test fails where it panics")]

#[path = "lab/mod.rs"]
mod lab;

use std::{
    ffi::OsStr,
    fs::{self, Permissions},
    io::{self, Read},
    os::unix::{
        ffi::OsStrExt,
        fs::{MetadataExt, PermissionsExt, symlink},
    },
    path::Path,
};

use lab::Nix;
use narswarm::{
    nix::nar::{self, Limits, Sink},
    store::{NarReader, nar_hash, restore, scan},
};

struct Nowhere;

impl Sink for Nowhere {
    fn directory(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn symlink(&mut self, _: &[u8], _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn regular(&mut self, _: &[u8], _: bool, _: u64) -> io::Result<()> {
        Ok(())
    }
    fn contents(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
}

/// Dumps `path` with both programs, reads the NAR, unpacks it, and dumps the copy.
#[track_caller]
fn case(make: impl Fn(&Path)) {
    let Some(lab) = Nix::new("nix_nar") else {
        return;
    };
    let path = lab.work().join("path");
    make(&path);
    let name = path.to_str().unwrap();
    let theirs = lab.bytes("nix-store", &["--dump", name]);

    let layout = scan(&path).unwrap();
    assert_eq!(layout.size(), theirs.len() as u64);
    let mut ours = Vec::new();
    NarReader::open(layout).read_to_end(&mut ours).unwrap();
    assert!(ours == theirs, "the NARs differ");

    let hash = lab.run("nix-hash", &["--type", "sha256", "--base32", name]);
    assert_eq!(nar_hash(scan(&path).unwrap()).unwrap().base32(), hash);

    let size = nar::read(theirs.as_slice(), &mut Nowhere, &Limits::default()).unwrap();
    assert_eq!(size, theirs.len() as u64);

    let copy = lab.work().join("copy");
    restore(theirs.as_slice(), &copy, &Limits::default()).unwrap();
    assert!(lab.bytes("nix-store", &["--dump", copy.to_str().unwrap()]) == theirs);
    check_as_in_a_store(&copy);
    assert_eq!(
        fs::read_dir(lab.work()).unwrap().count(),
        2,
        "something was left behind"
    );
}

fn check_as_in_a_store(path: &Path) {
    let metadata = fs::symlink_metadata(path).unwrap();
    if metadata.is_symlink() {
        return;
    }
    assert_eq!(metadata.mtime(), 1, "{}", path.display());
    let mode = metadata.mode() & 0o7777;
    if metadata.is_dir() {
        assert_eq!(mode, 0o555);
        for entry in fs::read_dir(path).unwrap() {
            check_as_in_a_store(&entry.unwrap().path());
        }
    } else {
        assert!(mode == 0o444 || mode == 0o555, "{mode:o}");
    }
}

fn executable(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_file() {
    for size in [0, 1, 7, 8, 9, 300_000] {
        case(|path| fs::write(path, vec![b'x'; size]).unwrap());
    }
}

#[test]
fn executables() {
    for mode in [0o755, 0o700, 0o100 | 0o400, 0o644, 0o655, 0o444] {
        case(|path| {
            fs::write(path, "#!").unwrap();
            executable(path, mode);
        });
    }
}

#[test]
fn a_symlink() {
    case(|path| symlink("/nowhere/at all", path).unwrap());
    case(|path| symlink(OsStr::from_bytes(b"\xff\n"), path).unwrap());
    case(|path| symlink("x/".repeat(2047), path).unwrap());
}

#[test]
fn an_empty_directory() {
    case(|path| fs::create_dir(path).unwrap());
}

#[test]
fn a_deep_directory() {
    // As deep as PATH_MAX and the test's own directory allow.
    case(|path| fs::create_dir_all(path.join("d/".repeat(1900))).unwrap());
}

#[test]
fn a_tree_with_odd_names() {
    case(|path| {
        fs::create_dir(path).unwrap();
        let names: [&[u8]; 15] = [
            b"a",
            b"A",
            b"a.",
            b"a-",
            b"aa",
            b"a b",
            b"\n",
            b"\\",
            b"'\"",
            b"\xc3\xa9",
            b"e\xcc\x81",
            b"\xff\xfe",
            b"-",
            b"...",
            b"~nix~case~hack~1",
        ];
        for (i, name) in names.iter().enumerate() {
            let entry = path.join(OsStr::from_bytes(name));
            match i % 4 {
                0 => fs::write(&entry, [b'0'; 20]).unwrap(),
                1 => {
                    fs::create_dir_all(entry.join("sub/sub")).unwrap();
                    fs::write(entry.join("sub.x"), "").unwrap();
                    fs::write(entry.join("sub/y"), "y").unwrap();
                    fs::write(entry.join("sub/sub").join(OsStr::from_bytes(name)), "z").unwrap();
                }
                2 => symlink(OsStr::from_bytes(name), &entry).unwrap(),
                _ => {
                    fs::write(&entry, name).unwrap();
                    executable(&entry, 0o755);
                }
            }
        }
        let long = "x".repeat(255);
        fs::write(path.join(long), "long").unwrap();
    });
}

#[test]
fn a_large_tree() {
    case(|path| {
        for i in 0..3000_u32 {
            let directory = path.join(format!("{}/{}", i % 7, i % 31));
            fs::create_dir_all(&directory).unwrap();
            fs::write(
                directory.join(i.to_string()),
                vec![i as u8; (i * 7 % 5000) as usize],
            )
            .unwrap();
        }
    });
}
