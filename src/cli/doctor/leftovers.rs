//! What channels that nobody follows any more have left in the state directory. The program never takes it away by itself:
//! without the highest sequence seen an old release would be accepted when the channel is followed again.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::catalog::Shelf;
use crate::config::Size;
use crate::manifest::ChannelName;
use crate::nix::PublicKey;

use super::Patient;
use super::finding::Finding;

const WHAT: &str = "left over";

/// Nothing is said where the state directory may not be read.
pub fn leftovers(patient: &Patient) -> Vec<Finding> {
    let state = &patient.options.state;
    let mut known = HashSet::new();
    for (channel, key) in followed(patient) {
        known.insert(pointers(state).join(channel.topic(&key.bytes()).to_string()));
        known.insert(
            Shelf::of_another(state, channel, key, 1)
                .directory()
                .to_owned(),
        );
    }
    let left = |directory: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(directory).into_iter().flatten().flatten();
        let mut left: Vec<_> = entries.map(|entry| entry.path()).collect();
        left.retain(|path| !known.contains(path));
        left.sort_unstable();
        left
    };
    let shelves = left(&Shelf::all(state)).into_iter().map(|path| {
        let what = "of a channel that is not followed any more";
        finding(&[path], what, "   # the highest sequence seen goes with it")
    });
    let pointers = left(&pointers(state));
    let pointers = (!pointers.is_empty())
        .then(|| finding(&pointers, "of channels that are not followed any more", ""));
    shelves.chain(pointers).collect()
}

/// Where `swarm` keeps the newest pointers, each under its topic.
fn pointers(state: &Path) -> PathBuf {
    state.join("pointers")
}

/// What the file names, and what the running node has not let go of yet.
fn followed(patient: &Patient) -> Vec<(ChannelName, PublicKey)> {
    let running = patient.status.as_ref().ok();
    let running = running.and_then(|status| status["channels"].as_array());
    let running = running.into_iter().flatten().filter_map(|channel| {
        let (name, key) = (channel["name"].as_str()?, channel["key"].as_str()?);
        // A link's key has no name.
        let key = key.parse().or_else(|_| format!("link:{key}").parse());
        Some((name.parse().ok()?, key.ok()?))
    });
    let named = patient.options.channels.iter();
    named
        .map(|channel| (channel.name.clone(), channel.key.clone()))
        .chain(running)
        .collect()
}

fn finding(paths: &[PathBuf], what: &str, beside: &str) -> Finding {
    let bytes = Size(paths.iter().map(|path| size(path)).sum());
    let shown = match paths {
        [path] => path.display().to_string(),
        paths => format!("{} files", paths.len()),
    };
    let quoted: Vec<_> = paths.iter().map(|path| quoted(path)).collect();
    let remedy = format!("rm -r {}{beside}", quoted.join(" "));
    Finding::warn(WHAT, format!("{shown}: {bytes} {what}"), remedy)
}

/// For a shell, whatever the state directory is called.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "'\\''"))
}

/// Of everything below.
fn size(path: &Path) -> u64 {
    let Ok(found) = path.symlink_metadata() else {
        return 0;
    };
    if !found.is_dir() {
        return found.len();
    }
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.map(|entry| size(&entry.path())).sum()
}
