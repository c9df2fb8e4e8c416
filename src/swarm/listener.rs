//! The one public TCP port: who may come in, and how many at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits::Places;
use super::offer::OfferError;
use super::seeder::{Seeder, SeederError};
use super::share::SharePolicy;

/// After a failed accept (out of descriptors, mostly) there is nothing better to do than to wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Accepts until `stop`; each connection is a task of its own in `tasks`.
pub async fn listen(
    listener: TcpListener,
    seeder: Arc<Seeder>,
    policy: Arc<SharePolicy>,
    places: Places,
    tasks: TaskTracker,
    stop: CancellationToken,
) {
    loop {
        let accepted: io::Result<(TcpStream, SocketAddr)> = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot accept peer connections; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if !policy.allows(address) {
            tracing::debug!(%address, share = policy.share().as_str(), "refused a peer: not within what is shared");
            continue;
        }
        let Some(place) = places.take(address.ip()) else {
            tracing::debug!(%address, "refused a peer: too many connections");
            continue;
        };
        let (seeder, stop) = (seeder.clone(), stop.clone());
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = stop.cancelled() => {}
                result = seeder.serve(stream) => match result {
                    Ok(()) => {}
                    Err(SeederError::Offer(error @ OfferError::Withdrawn { .. })) => seeder.counters.error(error.to_string()),
                    Err(error) => tracing::debug!(%address, %error, "a peer connection ended"),
                }
            }
        });
    }
}
