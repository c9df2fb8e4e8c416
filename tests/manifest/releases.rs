//! Release after release: what was put in comes out, ids stay, and old layers are merged by the rule.

use std::collections::BTreeMap;

use narswarm::manifest::{MAX_LAYERS, NewRow, assemble};
use narswarm::nix::StorePath;
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq, proptest};

use crate::sample::{self, ENCODER, Release, SYSTEM, normal};

fn name(path: usize) -> String {
    format!("package-{path}")
}

/// A release as a list of (path, content, references as distances to lower paths that are in it).
type Plan = BTreeMap<usize, (u8, Vec<usize>)>;

fn plan() -> impl Strategy<Value = Plan> {
    let row = (0u8..2, proptest::collection::vec(1usize..8, 0..4));
    proptest::collection::btree_map(0usize..24, row, 0..24)
}

fn rows(plan: &Plan) -> Vec<NewRow> {
    let rows = plan.iter().map(|(path, (content, distances))| {
        let references = distances
            .iter()
            .filter_map(|distance| path.checked_sub(*distance));
        let references: Vec<_> = references
            .filter(|path| plan.contains_key(path))
            .map(name)
            .collect();
        let mut references: Vec<_> = references.iter().map(String::as_str).collect();
        let own = name(*path);
        if path % 2 == 0 {
            references.push(&own);
        }
        references.sort_unstable();
        references.dedup();
        let mut row = sample::row(&own, *content, &references);
        row.ca = (path % 5 == 0).then(|| format!("text:sha256:{path}"));
        row.deriver = (path % 3 > 0).then(|| sample::path(&format!("{}.drv", name(path / 10))));
        row
    });
    rows.collect()
}

fn expected(rows: &[NewRow]) -> BTreeMap<StorePath, NewRow> {
    rows.iter()
        .map(|row| (row.store_path.clone(), normal(row.clone())))
        .collect()
}

fn next(before: &Option<Release>, system: &str, sequence: u64, rows: Vec<NewRow>) -> Release {
    let previous = before
        .as_ref()
        .map(|release| (&release.header, &release.layers[..]));
    let assembled = assemble(previous, ENCODER, system, rows).unwrap();
    let had = before.as_ref().map(|release| release.encoded.clone());
    Release::fetch(sequence, assembled, had.unwrap_or_default())
}

proptest! {
    #[test]
    fn what_is_put_in_comes_out(plans in proptest::collection::vec(plan(), 1..6)) {
        let mut before: Option<Release> = None;
        for (sequence, plan) in plans.iter().enumerate() {
            let rows = rows(plan);
            let wanted = expected(&rows);
            let mut shuffled = rows.clone();
            shuffled.reverse();
            let after = next(&before, SYSTEM, sequence as u64 + 1, rows);
            prop_assert_eq!(&next(&before, SYSTEM, sequence as u64 + 1, shuffled).header, &after.header);

            let live = after.live(SYSTEM);
            let found: BTreeMap<_, _> = live.iter().map(|(path, (_, row))| (path.clone(), row.clone())).collect();
            prop_assert_eq!(&found, &wanted);
            if let Some(before) = &before {
                let newest = before.header.layers.last().map_or(0, |entry| entry.number);
                for (path, (id, row)) in before.live(SYSTEM) {
                    let Some((now, _)) = live.get(&path).filter(|(_, now)| *now == row) else { continue };
                    prop_assert!(*now == id || now.layer > newest, "{path} moved from {id} to {now}");
                }
                let is_new = after.header.layers.last().is_some_and(|entry| entry.number > newest);
                for entry in &after.header.layers {
                    prop_assert!(!is_new || entry.live_count() * 2 >= entry.rows, "layer {} should be merged", entry.number);
                }
            }
            before = Some(after);
        }
    }
}

#[test]
fn the_same_release_again_needs_no_layer() {
    let first = next(&None, SYSTEM, 1, sample::rows());
    let again = assemble(
        Some((&first.header, &first.layers)),
        "another-encoder",
        SYSTEM,
        sample::rows(),
    )
    .unwrap();
    assert_eq!(again.new_layer, None);
    assert_eq!(again.layers, first.header.layers);
}

#[test]
fn a_row_that_comes_back_is_revived() {
    let first = next(&None, SYSTEM, 1, sample::rows());
    let fewer: Vec<_> = sample::rows()
        .into_iter()
        .filter(|row| row.ca.is_none())
        .collect();
    let second = next(&Some(first), SYSTEM, 2, fewer);
    assert_eq!(second.header.layers[0].live_count(), 3);
    let third = next(&Some(second), SYSTEM, 3, sample::rows());
    assert_eq!(third.header.layers.len(), 1);
    assert_eq!(third.header.layers[0].live_count(), 4);
}

#[test]
fn a_layer_mostly_dead_is_merged_with_all_later_ones() {
    let many = |count: usize| {
        (0..count)
            .map(|i| sample::row(&name(i), 0, &[]))
            .collect::<Vec<_>>()
    };
    let first = next(&None, SYSTEM, 1, many(10));
    let second = next(&Some(first), SYSTEM, 2, many(12));
    let third = next(&Some(second), SYSTEM, 3, many(14));
    let numbers = |release: &Release| -> Vec<u32> {
        release
            .header
            .layers
            .iter()
            .map(|entry| entry.number)
            .collect()
    };
    assert_eq!(numbers(&third), [1, 2, 3]);
    // Half of layer 1 stays: nothing is merged. Both rows of layer 2 go: it and layer 3 are merged.
    let half: Vec<_> = many(14).drain(5..).collect();
    let fourth = next(&Some(third), SYSTEM, 4, half);
    assert_eq!(numbers(&fourth), [1, 2, 3]);
    let mut without: Vec<_> = many(14).drain(5..).collect();
    without.retain(|row| ![name(10), name(11)].contains(&row.store_path.name().to_owned()));
    let fifth = next(&Some(fourth), SYSTEM, 5, without.clone());
    assert_eq!(numbers(&fifth), [1, 4]);
    assert_eq!(fifth.layers[1].len(), 2);
    // Less than half of layer 1: all is one layer again, whose number is new.
    let sixth = next(&Some(fifth), SYSTEM, 6, without.split_off(1));
    assert_eq!(numbers(&sixth), [5]);
    assert_eq!(sixth.live(SYSTEM).len(), 6);
    // Nothing left: the layer stays as a dead one, so that its number is not given out again.
    let seventh = next(&Some(sixth), SYSTEM, 7, Vec::new());
    assert_eq!(numbers(&seventh), [5]);
    assert_eq!(seventh.header.layers[0].live_count(), 0);
    let eighth = next(
        &Some(seventh),
        SYSTEM,
        8,
        vec![sample::row("other", 0, &[])],
    );
    assert_eq!(numbers(&eighth), [6]);
}

#[test]
fn layers_are_merged_before_there_are_too_many() {
    let mut release = None;
    for count in 1..=MAX_LAYERS + 6 {
        let rows: Vec<_> = (0..count)
            .map(|i| sample::row(&name(i), 0, &[&name(i / 2)]))
            .collect();
        let after = next(&release, SYSTEM, count as u64, rows);
        assert_eq!(after.live(SYSTEM).len(), count);
        let layers = if count <= MAX_LAYERS {
            count
        } else {
            count - MAX_LAYERS
        };
        assert_eq!(after.header.layers.len(), layers);
        release = Some(after);
    }
}

#[test]
fn systems_do_not_touch_each_other() {
    let first = next(&None, SYSTEM, 1, sample::rows());
    let arm = vec![
        sample::row("glibc-2.40", 1, &[]),
        sample::row("hello-2.12.1", 0, &["glibc-2.40"]),
    ];
    let second = next(&Some(first), "aarch64-linux", 2, arm.clone());
    assert_eq!(second.live(SYSTEM).len(), 4);
    assert_eq!(second.live("aarch64-linux").len(), 2);
    let third = next(
        &Some(second),
        SYSTEM,
        3,
        vec![sample::row("hello-2.12.1", 2, &[])],
    );
    let numbers: Vec<u32> = third
        .header
        .layers
        .iter()
        .map(|entry| entry.number)
        .collect();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(third.live(SYSTEM).len(), 1);
    let live = third
        .live("aarch64-linux")
        .into_values()
        .map(|(_, row)| (row.store_path.clone(), row));
    assert_eq!(live.collect::<BTreeMap<_, _>>(), expected(&arm));
}
