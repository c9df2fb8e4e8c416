//! `narswarm publish`.

use std::fs;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::config::Size;
use crate::nix::{SecretKey, StoreDir, StorePath};
use crate::publish::{PathSource, PublishError, PublishOptions, publish};
use crate::store::StoreError;
use crate::swarm::put_pointer;

use super::args::PublishArgs;
use super::exit::{FAILED, Failure, NOT_FOUND, REFUSED};
use super::progress::Bar;

pub async fn run(args: PublishArgs) -> Result<(), Failure> {
    let source = PathSource::open(&args.from).await.map_err(failure)?;
    let options = PublishOptions {
        roots: roots(&args, source.store_dir())?,
        source,
        secret_key: read_key(&args.secret_key)?,
        narinfo_key: args.narinfo_key.as_deref().map(read_key).transpose()?,
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
        now: now(),
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
    // What lies in --out counts; a DHT that is not reachable does not undo it.
    let announced = match args.announce {
        true => Some(put_pointer(&published.pointer, &args.bootstrap).await),
        false => None,
    };
    if let Some(Err(reason)) = &announced {
        eprintln!("warning: the pointer was not put into the DHT: {reason}");
    }
    let nodes = announced.and_then(Result::ok);
    if args.json {
        let line = json!({
            "channel": channel, "release": release, "sequence": published.sequence, "key": public_key.to_string(),
            "paths": published.paths, "new_paths": published.new_paths, "nar_bytes": published.nar_bytes,
            "payload_bytes": published.payload_bytes, "manifest_bytes": published.manifest_bytes,
            "info_hash": published.manifest.to_string(), "magnet": published.magnet.to_string(),
            "link": published.link.to_string(), "dht_nodes": nodes,
        });
        println!("{line}");
        return Ok(());
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
    Ok(())
}

/// SOURCE_DATE_EPOCH makes a publication reproducible to the byte.
fn now() -> u64 {
    let fixed = std::env::var("SOURCE_DATE_EPOCH")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    fixed.unwrap_or_else(|| {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs())
    })
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
        roots.push(store_path(path, store_dir)?);
    }
    if let Some(file) = &args.store_paths {
        let text = fs::read_to_string(file);
        let text = text
            .map_err(|error| Failure::usage(format!("cannot read {}: {error}", file.display())))?;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            roots.push(store_path(Path::new(line), store_dir)?);
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
fn store_path(path: &Path, store_dir: &StoreDir) -> Result<StorePath, Failure> {
    let text = path.to_string_lossy();
    let on_disk = |path: &Path| {
        let text = path.to_string_lossy().into_owned();
        let at = text.rfind(store_dir.as_str())?;
        StorePath::parse(store_dir, text[at..].trim_end_matches('/')).ok()
    };
    let linked = || {
        fs::canonicalize(path)
            .ok()
            .and_then(|target| on_disk(&target))
    };
    let found = on_disk(path).or_else(linked);
    found.ok_or_else(|| Failure::usage(format!("'{text}' is not a path in {store_dir}")))
}

fn failure(error: PublishError) -> Failure {
    let code = match &error {
        PublishError::Absent { .. } | PublishError::Store(StoreError::NotValid(_)) => NOT_FOUND,
        error if error.is_refusal() => REFUSED,
        _ => FAILED,
    };
    Failure::new(code, error)
}
