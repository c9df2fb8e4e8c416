//! A gossip of its own for tests: nothing installed, nothing followed.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::catalog::{InfoDicts, Offers};
use crate::runtime::Counters;
use crate::swarm::discovery::{PeerBook, Pointers};
use crate::swarm::payloads::PayloadDirectory;
use crate::swarm::seeding::{
    Crowds, Invitations, Keeping, OfferBook, Recreation, Seeder, Slots, UploadLimits, UploadRates,
};
use crate::swarm::share::{Share, SharePolicy};

use super::{Gossip, GossipParts};

pub fn alone(place: &Path) -> (Arc<PeerBook>, Arc<Gossip>) {
    let peers = Arc::new(PeerBook::default());
    let infos = Arc::new(InfoDicts::open(&place.join("info.sqlite")).unwrap());
    let payloads = PayloadDirectory::open(&place.join("cache"), 1 << 20).unwrap();
    let recreation = Recreation {
        threads: Some(1),
        nice: 0,
    };
    let offers = Arc::new(Offers::new(None, true));
    let book = OfferBook::new(offers, infos, payloads, None, recreation);
    let book = Arc::new(book.unwrap());
    let policy = Arc::new(SharePolicy::new(Share::Lan, vec![]));
    let seeder = Seeder {
        crowds: Arc::new(Crowds::new(0)),
        book: book.clone(),
        rates: UploadRates::new(UploadLimits::default()),
        slots: Slots::new(1),
        invitations: Invitations::new(1),
        keeping: Keeping::default(),
        policy: policy.clone(),
        counters: Arc::new(Counters::default()),
        peer_id: [1; 20],
        port: 1,
    };
    let gossip = Gossip::start(GossipParts {
        peer_id: [1; 20],
        port: 1,
        seedbox: false,
        neighbours: 4,
        policy,
        peers: peers.clone(),
        pointers: Pointers::new(place.join("pointers")).unwrap(),
        book,
        seeder: Arc::new(seeder),
        tasks: TaskTracker::new(),
        stop: CancellationToken::new(),
    });
    (peers, gossip)
}
