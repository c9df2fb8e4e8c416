//! The one public TCP port: who may come in, and how many at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::incoming::{Incoming, IncomingError};
use super::limits::Places;
use super::offer::OfferError;
use super::seeder::{Seeder, SeederError};
use super::share::SharePolicy;

/// After a failed accept (out of descriptors, mostly) there is nothing better to do than to wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// What lies behind the port.
pub struct Entrance {
    pub seeder: Arc<Seeder>,
    pub policy: Arc<SharePolicy>,
    pub places: Places,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
}

#[derive(Debug, Error)]
enum EntranceError {
    #[error(transparent)]
    Incoming(#[from] IncomingError),
    #[error(transparent)]
    Seeder(#[from] SeederError),
}

impl Entrance {
    /// Accepts until `stop`; each connection is a task of its own in `tasks`.
    pub async fn listen(self, listener: TcpListener) {
        let entrance = Arc::new(self);
        loop {
            let accepted: io::Result<(TcpStream, SocketAddr)> = tokio::select! {
                () = entrance.stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => entrance.clone().enter(stream, address),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept peer connections; is the limit of open files too low?");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn enter(self: Arc<Self>, stream: TcpStream, address: SocketAddr) {
        if !self.policy.allows(address) {
            tracing::debug!(%address, share = self.policy.share().as_str(), "refused a peer: not within what is shared");
            return;
        }
        let Some(place) = self.places.take(address.ip()) else {
            tracing::debug!(%address, "refused a peer: too many connections");
            return;
        };
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            let _place = place;
            tokio::select! {
                () = self.stop.cancelled() => {}
                () = self.policy.refuses(address) => {}
                result = self.dispatch(stream) => match result {
                    Ok(()) => {}
                    Err(EntranceError::Seeder(SeederError::Offer(error @ OfferError::Withdrawn { .. }))) => {
                        self.seeder.counters.error(error.to_string());
                    }
                    Err(error) => tracing::debug!(%address, %error, "a peer connection ended"),
                }
            }
        });
    }

    /// The info hash says what the peer wants. What is not offered is hung up on, without a word.
    async fn dispatch(&self, stream: TcpStream) -> Result<(), EntranceError> {
        let peer = Incoming::read(stream).await?;
        match self.seeder.book.find(&peer.hello.info_hash) {
            Some(offer) => Ok(self.seeder.serve(offer, peer).await?),
            None => Ok(()),
        }
    }
}
