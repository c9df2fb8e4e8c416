//! `narswarm demo`: the whole way of a release on this machine. A publisher's store, two seedboxes, an agent, and Nix.

mod isolation;
mod machine;
mod nix_store;
mod origin_store;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::config::Size;
use crate::nix::{PublicKey, SecretKey, StorePath};
use crate::publish::{PathSource, PublishOptions, publish};
use crate::serve::Node;
use crate::store::{Store, nar_hash, scan};

use super::args::DemoArgs;
use super::exit::{Failure, REFUSED};
use super::progress::Bar;
use super::substituter_client::SubstituterClient;
use machine::Machine;
use origin_store::OriginStore;

const CHANNEL: &str = "demo";

pub async fn run(args: DemoArgs) -> Result<(), Failure> {
    if let Some(result) = isolation::rerun_alone() {
        return result;
    }
    let directory = tempfile::Builder::new()
        .prefix("narswarm-demo-")
        .tempdir()
        .map_err(Failure::failed)?;
    let path = directory.path().to_owned();
    let result = Demo {
        directory: &path,
        args: &args,
    }
    .run()
    .await;
    if args.keep {
        println!("kept: {}", directory.keep().display());
    } else {
        // Store paths are read-only: without this they could not be removed.
        origin_store::make_writable(&path);
    }
    result
}

struct Demo<'a> {
    directory: &'a Path,
    args: &'a DemoArgs,
}

impl Demo<'_> {
    async fn run(&self) -> Result<(), Failure> {
        println!("{}", isolation::describe());
        let (origin, size) = (self.path("origin"), self.args.size.0);
        let built = tokio::task::spawn_blocking(move || OriginStore::build(&origin, size));
        let origin = built
            .await
            .map_err(Failure::failed)?
            .map_err(|error| Failure::failed(format!("the origin's store: {error}")))?;
        println!(
            "1. a store with {} paths, {} of this machine's own files",
            origin.paths.len(),
            Size(origin.bytes)
        );

        let channel_key = SecretKey::generate("demo-channel-1").map_err(Failure::failed)?;
        let narinfo_key = SecretKey::generate("demo-cache-1").map_err(Failure::failed)?;
        let (channel, cache) = (channel_key.public(), narinfo_key.public());
        let published = self.publish(&origin, channel_key, narinfo_key).await?;
        println!("2. published: {published}");

        let seedboxes = [
            Machine::seedbox_of_store(
                &self.path("box-1"),
                &self.path("origin"),
                &self.path("channel"),
                &channel,
            )
            .start()
            .await?,
            Machine::seedbox_of_payloads(
                &self.path("box-2"),
                &self.path("payloads"),
                &self.path("channel"),
                &channel,
            )
            .start()
            .await?,
        ];
        println!(
            "3. seeded by two seedboxes: one re-creates payloads from the store, one has them as files"
        );

        let peers = seedboxes.iter().map(|node| node.run_file().peer).collect();
        let agent = Machine::agent(
            &self.path("agent"),
            &self.path("target"),
            &self.path("channel"),
            &channel,
            &cache,
            peers,
        );
        let agent = agent.start().await?;
        let started = Instant::now();
        let client = self.substitute(&agent, &origin.root, cache).await?;
        let took = started.elapsed();
        println!(
            "4. an agent with an empty store substituted the closure through its shim, with {client}"
        );

        let verified = self.verify(&origin).await?;
        let outcome = Outcome::read(&agent, &seedboxes, took).await?;
        for node in seedboxes.into_iter().chain([agent]) {
            node.stop().await;
        }
        println!(
            "5. every path is there and has its NarHash: {verified} of {}",
            origin.paths.len()
        );
        println!();
        outcome.check(verified)?;
        println!("{outcome}");
        Ok(())
    }

    async fn publish(
        &self,
        origin: &OriginStore,
        secret_key: SecretKey,
        narinfo_key: SecretKey,
    ) -> Result<String, Failure> {
        let store = Store::open(Some(&self.path("origin"))).map_err(Failure::failed)?;
        let options = PublishOptions {
            channel: CHANNEL.parse().map_err(Failure::failed)?,
            release: "demo-1".to_owned(),
            system: format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            secret_key,
            narinfo_key: Some(narinfo_key),
            source: PathSource::Store(store),
            roots: vec![origin.root.clone()],
            files: vec![],
            out: self.path("channel"),
            previous: None,
            payloads: Some(self.path("payloads")),
            seedboxes: vec![],
            trackers: vec![],
            bootstrap: vec![],
            lifetime: Duration::from_secs(24 * 3600),
            now: std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
        };
        let bar = Arc::new(Bar::new("describing"));
        let published = publish(options, bar.clone()).await;
        bar.finish();
        let published = published.map_err(Failure::failed)?;
        Ok(format!(
            "a signed manifest of {} rows in {}, payloads of {}",
            published.paths,
            Size(published.manifest_bytes),
            Size(published.payload_bytes)
        ))
    }

    /// Fetches the closure of `root`, with Nix where it is installed.
    async fn substitute(
        &self,
        agent: &Node,
        root: &StorePath,
        key: PublicKey,
    ) -> Result<&'static str, Failure> {
        let shim = agent.run_file().shim;
        let target = self.path("target");
        if !self.args.without_nix && nix_store::is_installed() {
            nix_store::realise(&target, &self.path("nix"), root, shim, &key).await?;
            return Ok("the real nix-store --realise");
        }
        let client = SubstituterClient::new(shim, [key].into_iter().collect());
        let store = target.join("nix/store");
        std::fs::create_dir_all(&store).map_err(Failure::failed)?;
        let mut wanted = vec![root.clone()];
        let mut seen = std::collections::BTreeSet::from([root.clone()]);
        while let Some(path) = wanted.pop() {
            let narinfo = client
                .narinfo(&path.hash_part())
                .await
                .map_err(Failure::failed)?;
            client
                .unpack(&narinfo, &store.join(path.base_name()))
                .await
                .map_err(Failure::failed)?;
            wanted.extend(
                narinfo
                    .references
                    .into_iter()
                    .filter(|reference| seen.insert(reference.clone())),
            );
        }
        Ok("the built-in client (Nix is not used here); it checks the same signatures")
    }

    /// Reads every path of the second store again and compares it with the first.
    async fn verify(&self, origin: &OriginStore) -> Result<u64, Failure> {
        let (paths, target) = (origin.paths.clone(), self.path("target").join("nix/store"));
        let check = tokio::task::spawn_blocking(move || {
            let mut good = 0;
            for (path, expected) in paths {
                let found = scan(&target.join(path.base_name()))
                    .and_then(nar_hash)
                    .map_err(Failure::failed)?;
                if found != expected {
                    return Err(Failure::new(
                        REFUSED,
                        format!("{path} has NarHash {found}, expected {expected}"),
                    ));
                }
                good += 1;
            }
            Ok(good)
        });
        check.await.map_err(Failure::failed)?
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}

/// What the nodes say of themselves at the end.
struct Outcome {
    swarm: u64,
    upstream: u64,
    peers: usize,
    uploaded: u64,
    took: Duration,
}

impl Outcome {
    async fn read(agent: &Node, seedboxes: &[Node], took: Duration) -> Result<Self, Failure> {
        let bytes = status(agent).await?["bytes"].clone();
        let mut uploads = Vec::new();
        for node in seedboxes {
            uploads.push(
                status(node).await?["bytes"]["uploaded"]
                    .as_u64()
                    .unwrap_or(0),
            );
        }
        Ok(Self {
            swarm: bytes["swarm"].as_u64().unwrap_or(0),
            upstream: bytes["upstream"].as_u64().unwrap_or(0),
            peers: uploads.iter().filter(|bytes| **bytes > 0).count(),
            uploaded: uploads.iter().sum(),
            took,
        })
    }

    fn check(&self, verified: u64) -> Result<(), Failure> {
        if self.upstream > 0 || self.peers == 0 || self.swarm == 0 || verified == 0 {
            return Err(Failure::failed(
                "the bytes did not come from the swarm alone",
            ));
        }
        Ok(())
    }
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.took.as_secs_f64();
        writeln!(
            f,
            "{} of packages arrived in {seconds:.1} s,",
            Size(self.swarm)
        )?;
        writeln!(
            f,
            "as {} over the wire from {} peers, 0 from any upstream.",
            Size(self.uploaded),
            self.peers
        )?;
        write!(f, "No name was resolved: {}.", isolation::proof())
    }
}

async fn status(node: &Node) -> Result<Value, Failure> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .build()
        .map_err(Failure::failed)?;
    let url = format!("http://{}/status.json", node.run_file().shim);
    let text = client
        .get(url)
        .send()
        .await
        .map_err(Failure::failed)?
        .text()
        .await
        .map_err(Failure::failed)?;
    serde_json::from_str(&text).map_err(Failure::failed)
}
