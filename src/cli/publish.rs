//! `narswarm publish`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::config::Size;
use crate::nix::{SecretKey, StoreDir, StorePath};
use crate::publish::{PathSource, PublishError, PublishOptions, publish};
use crate::store::{StoreError, StoreUri};
use crate::swarm::put_pointer;

use super::args::PublishArgs;
use super::exit::{FAILED, Failure, NOT_FOUND, REFUSED};
use super::progress::Bar;

/// Linux's own limit is 40.
const MAX_LINKS: usize = 40;

pub async fn run(args: PublishArgs) -> Result<(), Failure> {
    let source = PathSource::open(&args.from).await.map_err(failure)?;
    let secret_key = read_key(&args.secret_key)?;
    let narinfo_key = args.narinfo_key.as_deref().map(read_key).transpose()?;
    let narinfo_public = narinfo_key.as_ref().map(SecretKey::public);
    if narinfo_public
        .as_ref()
        .is_some_and(|key| key.bytes() == secret_key.public().bytes())
    {
        return Err(Failure::usage(
            "--narinfo-key is the channel's key, which must not sign packages: make another one (narswarm keygen)",
        ));
    }
    let options = PublishOptions {
        roots: roots(&args, source.store_dir())?,
        source,
        secret_key,
        narinfo_key,
        system: args
            .system
            .unwrap_or_else(|| format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS)),
        channel: args.channel,
        release: args.release,
        files: args.files,
        out: args.out,
        previous: args.previous,
        payloads: args.payloads,
        seedboxes: args.seedboxes,
        trackers: args.trackers,
        bootstrap: args.bootstrap.clone(),
        lifetime: args.lifetime.0,
        now: now()?,
    };
    let (channel, release, out) = (
        options.channel.to_string(),
        options.release.clone(),
        options.out.clone(),
    );
    let public_key = options.secret_key.public();
    let bar = Arc::new(Bar::new("describing"));
    let published = publish(options, bar.clone()).await;
    bar.finish();
    let published = published.map_err(failure)?;
    let announced = match args.announce {
        true => Some(put_pointer(&published.pointer, &args.bootstrap).await),
        false => None,
    };
    let (nodes, unannounced) = match announced.transpose() {
        Ok(nodes) => (nodes, None),
        Err(reason) => (None, Some(reason)),
    };
    if args.json {
        let line = json!({
            "channel": channel, "release": release, "sequence": published.sequence, "key": public_key.to_string(),
            "paths": published.paths, "new_paths": published.new_paths, "nar_bytes": published.nar_bytes,
            "payload_bytes": published.payload_bytes, "manifest_bytes": published.manifest_bytes,
            "info_hash": published.manifest.to_string(), "magnet": published.magnet.to_string(),
            "link": published.link.to_string(), "signers": published.signers, "dht_nodes": nodes,
        });
        println!("{line}");
        return outcome(unannounced);
    }
    println!(
        "{channel} {release}, sequence {}: {} paths ({} new), {} of NARs, {} of payloads, manifest {}",
        published.sequence,
        published.paths,
        published.new_paths,
        Size(published.nar_bytes),
        Size(published.payload_bytes),
        Size(published.manifest_bytes),
    );
    if let Some(nodes) = nodes {
        println!("the pointer is kept by {nodes} nodes of the DHT");
    }
    println!("in {}; agents follow it with", out.display());
    println!("  [[channel]]\n  link = \"{}\"", published.link);
    println!(
        "(public key {public_key}; this release alone: {})",
        published.magnet
    );
    let signers: Vec<&str> = published.signers.iter().map(String::as_str).collect();
    if !signers.is_empty() {
        println!("packages signed by: {}", signers.join(", "));
    }
    if let Some(key) = narinfo_public {
        println!("  for trusted_keys of agents and trusted-public-keys of Nix: {key}");
    }
    outcome(unannounced)
}

/// The release counts as it lies in --out, but whoever asked for an announcement shall know that there was none.
fn outcome(unannounced: Option<String>) -> Result<(), Failure> {
    match unannounced {
        None => Ok(()),
        Some(reason) => Err(Failure::failed(format!(
            "the release is written, but the pointer is not in the DHT: no node took it ({reason}). Let UDP through, or \
             give --bootstrap"
        ))),
    }
}

/// SOURCE_DATE_EPOCH makes a publication reproducible to the byte.
fn now() -> Result<u64, Failure> {
    const FIXED: &str = "SOURCE_DATE_EPOCH";
    match std::env::var(FIXED) {
        Ok(seconds) => seconds.parse().map_err(|_| {
            Failure::usage(format!(
                "{FIXED} is {seconds:?}, not a number of seconds since 1970"
            ))
        }),
        Err(_) => Ok(SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())),
    }
}

fn read_key(path: &Path) -> Result<SecretKey, Failure> {
    let unusable = |reason: String| {
        Failure::usage(format!(
            "cannot use the secret key in {}: {reason}",
            path.display()
        ))
    };
    let text = fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
    SecretKey::from_str(text.trim()).map_err(|error| unusable(error.to_string()))
}

fn roots(args: &PublishArgs, store_dir: &StoreDir) -> Result<Vec<StorePath>, Failure> {
    let mut roots = Vec::new();
    for path in &args.closure {
        roots.push(store_path(path, store_dir, &args.from)?);
    }
    if let Some(file) = &args.store_paths {
        let text = fs::read_to_string(file);
        let text = text
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            roots.push(store_path(Path::new(line), store_dir, &args.from)?);
        }
    }
    if roots.is_empty() {
        return Err(Failure::usage(
            "there is nothing to publish: no store path is given",
        ));
    }
    Ok(roots)
}

/// A store path as written, as its place on disk in a chroot store, or what a profile link points to.
fn store_path(path: &Path, store_dir: &StoreDir, from: &StoreUri) -> Result<StorePath, Failure> {
    let on_disk = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        let at = text.rfind(store_dir.as_str())?;
        StorePath::parse(store_dir, text[at..].trim_end_matches('/')).ok()
    };
    let linked = || {
        let target = match from {
            StoreUri::Local { root: Some(root) } => follow_in(root, path, on_disk),
            _ => None,
        };
        target.or_else(|| on_disk(&fs::canonicalize(path).ok()?))
    };
    let found = on_disk(path).or_else(linked);
    found.ok_or_else(|| {
        let text = path.display();
        Failure::usage(match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("'{text}' does not exist")
            }
            _ => format!("'{text}' is neither a path in {store_dir} nor a link to one"),
        })
    })
}

/// Follows links as a process with this root would: a profile in a chroot store points to where it will be.
fn follow_in<T>(root: &Path, path: &Path, found: impl Fn(&Path) -> Option<T>) -> Option<T> {
    let mut path: PathBuf = path.strip_prefix(root).unwrap_or(path).to_owned();
    for _ in 0..MAX_LINKS {
        let inside = path.strip_prefix("/").unwrap_or(&path);
        let target = fs::read_link(root.join(inside)).ok()?;
        path = path.parent().unwrap_or(Path::new("/")).join(target);
        if let Some(found) = found(&path) {
            return Some(found);
        }
    }
    None
}

fn failure(error: PublishError) -> Failure {
    let code = match &error {
        PublishError::Absent { .. } | PublishError::Store(StoreError::NotValid { .. }) => NOT_FOUND,
        error if error.is_refusal() => REFUSED,
        _ => FAILED,
    };
    Failure::new(code, error)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_profile_is_followed_within_its_store() {
        let root = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(root.path()).unwrap();
        let profiles = root.join("nix/var/nix/profiles");
        fs::create_dir_all(&profiles).unwrap();
        let path = "/nix/store/00000000000000000000000000000000-system";
        symlink("system-1-link", profiles.join("system")).unwrap();
        symlink(path, profiles.join("system-1-link")).unwrap();
        symlink("circle", profiles.join("circle")).unwrap();
        let from = StoreUri::Local {
            root: Some(root.clone()),
        };
        let store_dir = StoreDir::default();
        let find =
            |path: &Path| store_path(path, &store_dir, &from).map(|path| path.full(&store_dir));
        let inside = Path::new("/nix/var/nix/profiles/system");
        for written in [
            inside,
            &profiles.join("system"),
            Path::new(path),
            &root.join(&path[1..]),
        ] {
            assert_eq!(find(written).unwrap(), path, "{}", written.display());
        }
        let circle = find(&profiles.join("circle")).unwrap_err();
        assert!(
            circle.message.contains("nor a link to one"),
            "{}",
            circle.message
        );
        let missing = find(&profiles.join("missing")).unwrap_err();
        assert!(
            missing.message.contains("does not exist"),
            "{}",
            missing.message
        );
    }
}
