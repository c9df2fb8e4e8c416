//! What an upload tells its peer beside blocks: which pieces there are, who else there is, and what the info dict says.

use crate::swarm::protocol::messages::{self, OurHello};
use crate::swarm::protocol::{BLOCK, Program};
use crate::swarm::seeding::offer::Offer;
use crate::torrent::{Bitfield, InfoDict};

use super::Upload;

/// Requests that a peer may have waiting at us: enough to fill 100 Mbit/s at 300 ms.
pub const REQUEST_QUEUE: u32 = 250;
/// The same in a crowd: one piece, if that is not more. More would be asked twice, of us and of whoever got it meanwhile.
pub fn crowd_request_queue(offer: &Offer) -> u32 {
    (offer.piece_length / BLOCK).clamp(1, REQUEST_QUEUE)
}

impl Upload<'_> {
    pub(super) fn put_have(&mut self, have: &Bitfield) {
        match (self.hello.fast, have.is_full(), have.ones()) {
            (true, true, _) => messages::put_have_all(&mut self.out),
            (true, false, 0) => messages::put_have_none(&mut self.out),
            _ => messages::put_bitfield(&mut self.out, have.as_bytes()),
        }
    }

    pub(super) fn put_hello(&mut self) {
        if self.hello.extended {
            let hello = OurHello {
                port: Some(self.seeder.port),
                metadata_size: u32::try_from(self.metadata.size()).ok(),
                reqq: self.reqq,
                gossip: false,
                // libtorrent leaves such a peer once it has all that the peer shows.
                upload_only: self.offer.have().is_full() && !self.paced,
                // libtorrent takes no PEX from whoever does not announce it; what it sends in turn is ignored.
                peers: self.line.is_some(),
            };
            messages::put_hello(&mut self.out, &hello);
        }
    }

    /// Pieces of a running download that were finished since we last said so.
    pub(super) fn put_finished(&mut self) {
        let now = self.offer.have();
        for piece in 0..self.offer.piece_count() {
            if now.get(piece) && self.have.set(piece) {
                messages::put_have(&mut self.out, piece);
            }
        }
    }

    /// Pieces to show, peers to tell of, and whether it got crowded.
    pub(super) fn put_news(&mut self) {
        let Some(line) = &self.line else {
            return;
        };
        let news = line.news();
        for piece in news.shown {
            messages::put_have(&mut self.out, piece);
        }
        if let (Some(id), false) = (self.ut_pex, news.peers.is_empty()) {
            messages::put_peers(&mut self.out, id, &news.peers);
        }
        // BEP 10 lets it be said again; only of our own program it is known that it listens.
        let few = crowd_request_queue(&self.offer);
        if news.crowded && self.reqq != few && self.program == Program::Narswarm {
            self.reqq = few;
            self.put_hello();
        }
    }

    pub(super) async fn put_metadata(&mut self, piece: u32, info: &InfoDict) {
        let Some(id) = self.ut_metadata else {
            return;
        };
        let size = self.metadata.size() as u32;
        match self.metadata.give(piece, info) {
            Some(data) => {
                self.seeder.rates.wait(self.machine, data.len()).await;
                messages::put_metadata_data(&mut self.out, id, piece, size, &data);
            }
            None => messages::put_metadata_reject(&mut self.out, id, piece),
        }
    }
}
