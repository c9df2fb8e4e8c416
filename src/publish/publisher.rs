//! One publication from start to end.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::InfoDicts;
use crate::manifest::{Header, NewRow, Pointer, SignedManifest, assemble, payload_name};
use crate::nix::{Addressed, fingerprint, verify_ca};
use crate::payload::{self, ENCODER_ID};
use crate::store::PathInfo;
use crate::torrent::{ChannelLink, InfoHash, Magnet};

use super::describe::Describer;
use super::error::PublishError;
use super::options::PublishOptions;
use super::output::Output;
use super::previous::Previous;
use super::progress::Progress;

/// What was published.
pub struct Published {
    pub sequence: u64,
    pub paths: u64,
    /// Paths that no earlier release of this channel had.
    pub new_paths: u64,
    pub nar_bytes: u64,
    pub payload_bytes: u64,
    pub manifest_bytes: u64,
    /// The names of the keys that signed the paths.
    pub signers: BTreeSet<String>,
    pub manifest: InfoHash,
    pub pointer: Pointer,
    /// Names this manifest.
    pub magnet: Magnet,
    /// Names the channel, whatever its newest release.
    pub link: ChannelLink,
}

pub async fn publish(
    options: PublishOptions,
    progress: Arc<dyn Progress + Send + Sync>,
) -> Result<Published, PublishError> {
    payload::self_test()?;
    let public_key = options.secret_key.public();
    let trackers = options
        .trackers
        .iter()
        .map(|tracker| tracker.as_str().to_owned())
        .collect::<Vec<_>>();
    // From here on nobody else writes there, so that the predecessor stays the predecessor.
    let output = Output::create(&options.out, trackers.clone())?;
    let directory = options.previous.as_ref().unwrap_or(&options.out);
    let previous = Previous::read(directory, &options.channel, &public_key)?;
    let mut paths = options.source.closure(&options.roots).await?;
    paths.sort_by(|a, b| a.store_path.cmp(&b.store_path));
    sign(&mut paths, &options)?;
    let signatures = paths.iter().flat_map(|info| &info.signatures);
    let signers = signatures.map(|by| by.key_name.clone()).collect();

    let payloads = payloads(&paths, previous.as_ref(), &options, &output, progress).await?;
    let nar_bytes = paths.iter().map(|info| info.nar_size).sum();
    let payload_bytes = payloads.iter().map(|(length, _)| length).sum();
    let count = paths.len() as u64;
    let rows = paths
        .into_iter()
        .zip(payloads)
        .map(|(info, (payload_length, info_hash))| NewRow {
            store_path: info.store_path,
            nar_hash: info.nar_hash,
            nar_size: info.nar_size,
            payload_length,
            info_hash,
            references: info.references,
            signatures: info.signatures,
            ca: info.ca,
            deriver: info.deriver,
        });
    let before = previous
        .as_ref()
        .map(|previous| (&previous.header, &previous.layers[..]));
    let assembled = assemble(before, ENCODER_ID, &options.system, rows.collect())?;
    let mut new_paths = 0;
    // Layers of a predecessor that lies elsewhere are copied.
    for previous in previous.iter().filter(|_| *directory != options.out) {
        for (layer, bytes) in previous.layers.iter().zip(&previous.encoded) {
            if let Some(entry) = assembled
                .layers
                .iter()
                .find(|entry| entry.number == layer.number())
            {
                output.layer(entry, bytes)?;
            }
        }
    }
    if let (Some(bytes), Some(entry)) = (&assembled.new_layer, assembled.layers.last()) {
        output.layer(entry, bytes)?;
        new_paths = u64::from(entry.live_count());
    }
    let files = options
        .files
        .iter()
        .map(|path| output.file(path))
        .collect::<Result<Vec<_>, _>>()?;
    let mut systems: Vec<String> = assembled
        .layers
        .iter()
        .map(|entry| entry.system.clone())
        .collect();
    systems.sort_unstable();
    systems.dedup();
    let header = Header {
        channel: options.channel.clone(),
        release: options.release.clone(),
        sequence: previous
            .as_ref()
            .map_or(1, |previous| previous.header.sequence + 1),
        created: options.now,
        expires: options.now + options.lifetime.as_secs(),
        store_dir: options.source.store_dir().clone(),
        systems,
        layers: assembled.layers,
        files,
        trackers: options.trackers.clone(),
        seedboxes: options.seedboxes.clone(),
        bootstrap: options.bootstrap.clone(),
    };
    let manifest = SignedManifest::sign(&header, &options.secret_key)?;
    let encoded = manifest.encode();
    let info = manifest.info_dict();
    let info = info.map_err(|source| PublishError::Torrent {
        path: options.out.join("manifest"),
        source,
    })?;
    let pointer = Pointer::sign(
        &options.channel,
        header.sequence,
        info.info_hash(),
        &options.secret_key,
    )?;
    let magnet = Magnet {
        info_hash: info.info_hash(),
        name: Some(info.name.clone()),
        length: Some(info.length),
        trackers,
        peers: options.seedboxes.clone(),
    };
    let link = ChannelLink {
        key: public_key.bytes(),
        salt: options.channel.as_str().as_bytes().to_vec(),
        peers: options.seedboxes,
    };
    output.manifest(&manifest, &pointer, &magnet, &link)?;
    output.prune(&header)?;
    Ok(Published {
        sequence: header.sequence,
        paths: count,
        new_paths,
        nar_bytes,
        payload_bytes,
        manifest_bytes: encoded.len() as u64
            + header.layers.iter().map(|entry| entry.length).sum::<u64>(),
        signers,
        manifest: info.info_hash(),
        pointer,
        magnet,
        link,
    })
}

/// Every path gets a signature or has one, or is named in the error.
fn sign(paths: &mut [PathInfo], options: &PublishOptions) -> Result<(), PublishError> {
    let store_dir = options.source.store_dir();
    let mut unsigned = Vec::new();
    for info in paths {
        let addressed = verify_ca(
            store_dir,
            &info.store_path,
            &info.nar_hash,
            &info.references,
            info.ca.as_deref(),
        ) == Some(Addressed::Nar);
        if !info.signatures.is_empty() || (addressed && options.narinfo_key.is_none()) {
            continue;
        }
        match &options.narinfo_key {
            Some(key) => {
                let text = fingerprint(
                    store_dir,
                    &info.store_path,
                    &info.nar_hash,
                    info.nar_size,
                    &info.references,
                );
                info.signatures.push(key.sign(text.as_bytes()));
            }
            None => unsigned.push(info.store_path.clone()),
        }
    }
    if unsigned.is_empty() {
        Ok(())
    } else {
        Err(PublishError::Unsigned(unsigned))
    }
}

/// Payload length and info hash of every path: from the predecessor, from an earlier run, or made now.
async fn payloads(
    paths: &[PathInfo],
    previous: Option<&Previous>,
    options: &PublishOptions,
    output: &Output<'_>,
    progress: Arc<dyn Progress + Send + Sync>,
) -> Result<Vec<(u64, InfoHash)>, PublishError> {
    let infos = Arc::new(InfoDicts::open(&output.info_dicts())?);
    let mut found = Vec::with_capacity(paths.len());
    for info in paths {
        let name = payload_name(&info.nar_hash);
        let written = |length: u64| {
            let mut directory = options.payloads.iter();
            // A shorter one is what a power cut left.
            directory.all(|directory| {
                let file = directory.join(&name).metadata();
                file.is_ok_and(|file| file.len() == length)
            })
        };
        let known = match previous
            .and_then(|previous| previous.payload(&info.store_path.hash_part(), &info.nar_hash))
        {
            Some(known) => Some(known),
            None => infos
                .named(&name)?
                .first()
                .map(|dict| (dict.length, dict.info_hash())),
        };
        found.push(known.filter(|(length, _)| written(*length)));
    }
    let missing: Vec<&PathInfo> = paths
        .iter()
        .zip(&found)
        .filter(|(_, found)| found.is_none())
        .map(|(info, _)| info)
        .collect();
    progress.begin(
        missing.len() as u64,
        missing.iter().map(|info| info.nar_size).sum(),
    );
    let payloads = options.payloads.as_deref().map(Arc::from);
    let describer = Describer {
        source: &options.source,
        infos,
        payloads,
        progress,
    };
    let mut described = describer.describe_all(&missing).await?.into_iter();
    let fill = |known: Option<(u64, InfoHash)>| {
        known
            .or_else(|| described.next().map(|dict| (dict.length, dict.info_hash())))
            .ok_or(PublishError::Worker)
    };
    found.into_iter().map(fill).collect()
}
