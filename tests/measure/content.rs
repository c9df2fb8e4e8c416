//! A closure with a heavy tail, as closures are: a few large paths and many small ones, filled with files of this
//! machine's packages, in a chroot store.

use std::fs;
use std::path::{Path, PathBuf};

use narswarm::nix::StorePath;

use crate::chroot_store::ChrootStore;
use crate::packages;

/// The k-th largest path has a share of 1 / k to this power. Of 150 paths with 300 MB in all the largest then has some
/// 75 MB, the tenth 5, the median 0.4: between nixpkgs' own (median 0.2) and what leaves time for several runs.
const TAIL: f64 = 1.2;
/// Larger files would not fit into the smaller half of the paths.
const LARGEST_FILE: u64 = 16_000_000;

/// `count` paths with about `bytes` in all. The last one needs all others.
pub fn closure(root: &Path, count: usize, bytes: u64) -> ChrootStore {
    let mut store = ChrootStore::create(root);
    let all: f64 = (1..=count).map(share).sum();
    let mut files = packages::files(1, LARGEST_FILE);
    // Files that were too large for the path that they were meant for: a later, larger one takes them.
    let mut left: Vec<(PathBuf, u64)> = Vec::new();
    let mut paths: Vec<Option<StorePath>> = vec![None; count + 1];
    for number in (1..=count).rev() {
        let wanted = (bytes as f64 * share(number) / all) as u64;
        let mut taken = Vec::new();
        let mut size = 0;
        left.retain(|(path, length)| {
            let fits = size + length <= wanted;
            if fits {
                size += length;
                taken.push(path.clone());
            }
            !fits
        });
        while size < wanted * 9 / 10 {
            let path = files.next().expect("too few files in Debian packages");
            let length = path.metadata().map_or(0, |metadata| metadata.len());
            if size + length <= wanted {
                size += length;
                taken.push(path);
            } else {
                left.push((path, length));
            }
        }
        // A tree with a few more edges.
        let needs = [2 * number, 2 * number + 1, 3 * number + 2];
        let mut needs: Vec<usize> = needs.into_iter().filter(|n| *n <= count).collect();
        needs.dedup();
        let references = needs.iter().filter_map(|n| paths[*n].clone()).collect();
        let added = store.add_with(&format!("part-{number}"), references, |place| {
            taken.iter().for_each(|file| copy(file, place));
        });
        paths[number] = Some(added);
    }
    store
}

fn share(number: usize) -> f64 {
    (number as f64).powf(-TAIL)
}

fn copy(file: &Path, place: &Path) {
    let to = place.join(file.strip_prefix("/").unwrap());
    fs::create_dir_all(to.parent().unwrap()).unwrap();
    // A file that only its owner may read stays an empty one.
    let content = fs::read(file).unwrap_or_default();
    fs::write(to, content).unwrap();
}
