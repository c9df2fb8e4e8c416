//! The way of a manifest into the shelf: verified, with all its layers, or not at all.

use std::sync::Arc;

use bytes::Bytes;

use crate::catalog::Shelf;
use crate::manifest::{Layer, SignedManifest};

use super::channel::FollowError;
use super::manifest_reader::ManifestReader;

/// Verifies a manifest, gets the layers that are missing, and keeps it.
pub async fn put_on_shelf(
    shelf: &Arc<Shelf>,
    reader: &ManifestReader,
    bytes: Bytes,
    pointed: Option<u64>,
) -> Result<(), FollowError> {
    let minimum = shelf.minimum_sequence()?;
    let keys = std::slice::from_ref(shelf.key());
    let manifest = SignedManifest::parse(&bytes)?.verify(shelf.channel(), keys, minimum)?;
    let header = manifest.header();
    if let Some(pointed) = pointed.filter(|pointed| *pointed != header.sequence) {
        let found = header.sequence;
        return Err(FollowError::Pointed { pointed, found });
    }
    // Layers that an earlier manifest brought, and that came to nothing, are not kept beside these.
    shelf.tidy_for(&manifest);
    for entry in &header.layers {
        let number = entry.number;
        let refused = move |source| FollowError::Layer { number, source };
        let (place, listed) = (shelf.clone(), entry.clone());
        let layer = match off_thread(move || place.layer(&listed)).await? {
            Some(layer) => layer,
            None => {
                let bytes = reader.layer(entry).await?;
                let (place, listed) = (shelf.clone(), entry.clone());
                let kept = off_thread(move || {
                    let layer = Layer::parse(bytes.clone(), &listed).map_err(refused)?;
                    place.put_layer(&listed, &bytes)?;
                    Ok::<_, FollowError>(layer)
                });
                Arc::new(kept.await??)
            }
        };
        layer.check_references(header).map_err(refused)?;
    }
    // Nothing is awaited after that: whoever stops waiting has it or has it not.
    shelf.put(&manifest)?;
    Ok(())
}

/// Not on a thread that connections wait for: a layer may have 256 MiB.
pub async fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, FollowError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| FollowError::Stopped)
}
