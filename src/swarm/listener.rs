//! The one public TCP port: who may come in, and how many at once.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::swarm::gossip::Gossip;
use crate::swarm::protocol::incoming::{self, Incoming, IncomingError};
use crate::swarm::seeding::{OfferError, Place, Places, Seeder, SeederError, Tracker, Visit};
use crate::swarm::share::SharePolicy;

/// After a failed accept (out of descriptors, mostly) there is nothing better to do than to wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// A BEP 3 handshake begins with 19, a request for the tracker with this.
const HTTP_GET: u8 = b'G';

/// What lies behind the port.
pub struct Entrance {
    pub seeder: Arc<Seeder>,
    pub tracker: Tracker,
    pub gossip: Arc<Gossip>,
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
    #[error("handing a connection on to librqbit: {0}")]
    DialBack(#[from] io::Error),
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
        // Seen through an IPv6 socket, an IPv4 address looks like another one.
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let expected = self.gossip.dial_backs.expects(address.ip());
        if !self.policy.allows(address) && !expected {
            tracing::debug!(%address, share = self.policy.share().as_str(), "refused a peer: not within what is shared");
            return;
        }
        let Some(place) = self.places.take(self.policy.machine_of(address.ip())) else {
            tracing::debug!(%address, "refused a peer: too many connections");
            return;
        };
        let tasks = self.tasks.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = self.stop.cancelled() => {}
                result = self.dispatch(stream, address, place) => match result {
                    Ok(()) => {}
                    Err(EntranceError::Seeder(SeederError::Offer(error @ OfferError::Withdrawn { .. }))) => {
                        self.seeder.counters.error(error.to_string());
                    }
                    Err(error) => tracing::debug!(%address, %error, "a peer connection ended"),
                }
            }
        });
    }

    /// The first byte says whether it is the tracker that is asked, the info hash what a peer wants. What is not offered
    /// is hung up on, without a word.
    async fn dispatch(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        place: Place,
    ) -> Result<(), EntranceError> {
        let peer = tokio::select! {
            () = place.displaced() => return Ok(()),
            met = self.meet(stream, address) => match met? {
                Some(peer) => peer,
                None => return Ok(()),
            },
        };
        place.greeted();
        let info_hash = peer.hello.info_hash;
        if let Some(asked) = self.gossip.dial_backs.take(address.ip(), info_hash) {
            // librqbit asks for everything here, and nobody sees when it is idle.
            place.works();
            self.gossip.dialled_back(&asked, peer, &info_hash).await?;
            return Ok(());
        }
        if self.gossip.is_topic(&info_hash) && self.policy.allows(address) {
            // Neighbours have slots of their own.
            drop(place);
            self.gossip.accept(peer, address).await;
            return Ok(());
        }
        let Some(offer) = self.seeder.book.find(&info_hash) else {
            return Ok(());
        };
        let holders = self.gossip.count_holders(&info_hash, offer.piece_count());
        let visit = Visit {
            place: &place,
            holders,
        };
        tokio::select! {
            // What is not shared any more is not served once more.
            biased;
            () = self.policy.refuses(address) => Ok(()),
            () = place.displaced() => Ok(()),
            served = self.seeder.serve(offer, peer, visit) => Ok(served?),
        }
    }

    /// Reads the handshake, or answers the tracker's question.
    async fn meet(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> Result<Option<Incoming>, EntranceError> {
        if incoming::first_byte(&stream).await? == HTTP_GET {
            if self.policy.allows(address) {
                self.tracker.serve(stream, address).await;
            }
            return Ok(None);
        }
        Ok(Some(Incoming::read(stream).await?))
    }
}
