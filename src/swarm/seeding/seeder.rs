//! The seeder: the upload side of this machine, for everything that it offers. It alone sends payload bytes.

use std::net::IpAddr;
use std::sync::Arc;

use thiserror::Error;

use crate::runtime::Counters;
use crate::torrent::InfoDict;

use super::crowds::Crowds;
use super::invitations::Invitations;
use super::limits::Place;
use super::offer::{Offer, OfferError};
use super::offer_book::OfferBook;
use super::slots::Slots;
use super::upload::{Keeping, Upload};
use super::upload_rates::UploadRates;
use crate::swarm::protocol::{Incoming, Request, WireError};
use crate::swarm::share::SharePolicy;

#[derive(Debug, Error)]
pub enum SeederError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error(transparent)]
    Offer(#[from] OfferError),
    #[error("writing to the peer: {0}")]
    Write(std::io::Error),
    #[error("the peer was silent for too long")]
    Silent,
    #[error("the peer asks although it is choked")]
    Choked,
    #[error("the peer asked for piece {}, {}+{}, which does not exist", .0.index, .0.begin, .0.length)]
    BadRequest(Request),
}

/// What the seeder is told of a connection.
pub struct Visit<'a> {
    /// Its place among those that came in, or those that we dialled.
    pub place: &'a Place,
    /// Other machines that are said to have all of the payload.
    pub holders: usize,
}

/// What all connections share.
pub struct Seeder {
    pub book: Arc<OfferBook>,
    pub crowds: Arc<Crowds>,
    pub rates: UploadRates,
    pub slots: Slots,
    pub invitations: Invitations,
    pub keeping: Keeping,
    pub policy: Arc<SharePolicy>,
    pub counters: Arc<Counters>,
    pub peer_id: [u8; 20],
    pub port: u16,
}

impl Seeder {
    /// Serves one connection until the peer is done.
    pub async fn serve(
        &self,
        offer: Offer,
        peer: Incoming,
        visit: Visit<'_>,
    ) -> Result<(), SeederError> {
        Upload::new(self, offer, peer, visit).run().await
    }

    /// The info dict of an offer that may have to be encoded for it: in turn, not for everybody at once.
    pub async fn info(&self, offer: &Offer, address: IpAddr) -> Result<Arc<InfoDict>, OfferError> {
        let _turn = self.slots.take(offer.info_hash, address).await;
        offer.info().await
    }
}
