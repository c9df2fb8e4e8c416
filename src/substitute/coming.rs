//! Paths that Nix has asked about and will likely ask for, in the order in which it takes them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Instant;

use rand::RngExt;

use crate::catalog::Entry;
use crate::nix::{HashPart, NarHash, Narinfo, StorePath};

use super::upstream_fetch::WantedNar;

/// In a crowd all ask for the same in the same order, and would have nothing to trade: each machine takes every other
/// time any of so many that come next.
const AMONG: usize = 64;

#[derive(Clone)]
pub struct Coming {
    pub asked: Instant,
    pub store_path: StorePath,
    pub nar_hash: NarHash,
    pub nar_size: u64,
    references: Vec<HashPart>,
    /// When a manifest lists it.
    pub row: Option<Box<Entry>>,
}

impl Coming {
    pub fn listed(row: &Entry) -> Self {
        Self {
            asked: Instant::now(),
            store_path: row.store_path.clone(),
            nar_hash: row.nar_hash,
            nar_size: row.nar_size,
            references: row.references.iter().map(StorePath::hash_part).collect(),
            row: Some(Box::new(row.clone())),
        }
    }

    pub fn passed_through(narinfo: &Narinfo) -> Self {
        Self {
            asked: Instant::now(),
            store_path: narinfo.store_path.clone(),
            nar_hash: narinfo.nar_hash,
            nar_size: narinfo.nar_size,
            references: narinfo
                .references
                .iter()
                .map(StorePath::hash_part)
                .collect(),
            row: None,
        }
    }

    pub fn hash_part(&self) -> HashPart {
        self.store_path.hash_part()
    }

    pub fn wanted(&self) -> WantedNar {
        WantedNar {
            hash_part: self.hash_part(),
            nar_hash: self.nar_hash,
            nar_size: self.nar_size,
            row: self.row.clone(),
        }
    }
}

/// Splits off the paths that will likely be taken, in that order: each after all that it refers to; of those that could
/// be next Nix takes the first by name. Whoever wants a path asks about all that it needs, so what refers to something
/// that nobody has asked about and that is not `there` was only a question: it is left in `paths`.
pub fn in_order_of_nix(
    paths: &mut HashMap<HashPart, Coming>,
    there: impl Fn(&HashPart) -> bool,
) -> Vec<Coming> {
    let mut missing: HashMap<HashPart, usize> = HashMap::new();
    let mut referrers: HashMap<HashPart, Vec<HashPart>> = HashMap::new();
    for (hash_part, path) in paths.iter() {
        let references = path.references.iter();
        for reference in references.filter(|reference| *reference != hash_part) {
            if paths.contains_key(reference) || !there(reference) {
                *missing.entry(*hash_part).or_default() += 1;
                referrers.entry(*reference).or_default().push(*hash_part);
            }
        }
    }
    let by_name = |path: &Coming| (path.store_path.name().to_owned(), path.hash_part());
    let ready = paths
        .iter()
        .filter(|(hash_part, _)| !missing.contains_key(hash_part));
    let mut ready: BTreeSet<(String, HashPart)> = ready.map(|(_, path)| by_name(path)).collect();
    let mut order = Vec::with_capacity(paths.len());
    while let Some((_, hash_part)) = ready.pop_first() {
        for referrer in referrers.remove(&hash_part).unwrap_or_default() {
            let Some(count) = missing.get_mut(&referrer) else {
                continue;
            };
            *count -= 1;
            if *count == 0
                && let Some(path) = paths.get(&referrer)
            {
                ready.insert(by_name(path));
            }
        }
        order.extend(paths.remove(&hash_part));
    }
    order
}

/// Takes the one that is to be fetched ahead now.
pub fn next_of(queue: &mut VecDeque<Coming>, crowded: bool) -> Option<Coming> {
    let mut rng = rand::rng();
    let at = match crowded && rng.random() {
        true => rng.random_range(0..AMONG.min(queue.len()).max(1)),
        false => 0,
    };
    queue.remove(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash_part(number: u8) -> HashPart {
        format!("{number:0>32}").parse().unwrap()
    }

    fn path(number: u8, name: &str, references: &[u8]) -> Coming {
        Coming {
            asked: Instant::now(),
            store_path: StorePath::new(hash_part(number), name).unwrap(),
            nar_hash: NarHash::from_bytes([number; 32]),
            nar_size: 1,
            references: references.iter().map(|number| hash_part(*number)).collect(),
            row: None,
        }
    }

    fn order(paths: &[Coming], there: &[u8]) -> (Vec<String>, usize) {
        let there: Vec<HashPart> = there.iter().map(|number| hash_part(*number)).collect();
        let paths = paths.iter().map(|path| (path.hash_part(), path.clone()));
        let mut paths = paths.collect();
        let order = in_order_of_nix(&mut paths, |hash_part| there.contains(hash_part));
        let names = order.iter().map(|path| path.store_path.name().to_owned());
        (names.collect(), paths.len())
    }

    #[test]
    fn in_a_crowd_each_takes_another_of_the_next_ones() {
        let names = |crowded| -> Vec<String> {
            let all = (0..=200).map(|number| path(number, &number.to_string(), &[]));
            let mut queue = all.collect();
            let taken = (0..100).filter_map(|_| next_of(&mut queue, crowded));
            taken
                .map(|path| path.store_path.name().to_owned())
                .collect()
        };
        let order: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        assert_eq!(names(false), order);
        let [one, other] = [names(true), names(true)];
        assert!(one.len() == 100 && one != other);
        let front = one.iter().filter(|name| order[..50].contains(name));
        assert!(front.count() > 30, "Nix asks for those next");
        assert!(next_of(&mut VecDeque::new(), true).is_none());
    }

    #[test]
    fn references_first_then_by_name() {
        let paths = [
            path(1, "top", &[1, 2, 3]),
            path(2, "z", &[4, 9]),
            path(3, "b", &[]),
            path(4, "a", &[]),
            path(5, "aa", &[2]),
        ];
        let names = |names: &[&str]| names.iter().map(|name| name.to_string()).collect();
        assert_eq!(
            order(&paths, &[9]),
            (names(&["a", "b", "z", "aa", "top"]), 0)
        );
        // Nobody has asked about 9: whatever needs it is not wanted, or not yet.
        assert_eq!(order(&paths, &[]), (names(&["a", "b"]), 3));
        let circle = [path(1, "x", &[2]), path(2, "y", &[1])];
        assert_eq!(order(&circle, &[]), (vec![], 2));
    }
}
