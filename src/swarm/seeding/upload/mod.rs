//! The upload side of one peer connection.
//!
//! One write opens the conversation (handshake, pieces, unchoke, extension handshake), so that a downloader's first
//! request leaves after one round trip; delayed ACKs are off, because a small NAR would wait 40 ms for one.

mod answering;
mod choke;
mod kept_piece;
mod metadata;
mod requests;
mod slot_turn;
mod telling;
mod turn_end;
mod waits;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt;
use socket2::SockRef;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::torrent::{Bitfield, InfoDict};

use super::crowd::Joining;
use super::crowds::{CROWD_PIECES, Line};
use super::limits::Place;
use super::offer::Offer;
use super::seeder::{Seeder, SeederError, Visit};
use crate::swarm::protocol::incoming::{Incoming, quick_ack};
use crate::swarm::protocol::{
    PeerHello, PeerId, PeerMessage, PeerReader, Program, WireError, messages,
};
use choke::Choke;
pub use kept_piece::Keeping;
use kept_piece::KeptPiece;
use metadata::Metadata;
use requests::Requests;
use slot_turn::{SlotTurn, TURN_TIME};
use telling::{REQUEST_QUEUE, crowd_request_queue};
use turn_end::TurnEnd;
use waits::{at, changed, changed_line, has_news};

/// BEP 3 sends a keep-alive every two minutes; after this silence the peer is gone. Where places are scarce it goes
/// earlier (`Places`).
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);
/// Clients leave whoever is silent for longer, also one that lets them wait: librqbit after 10 s.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A peer that takes no bytes for so long only holds memory.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Answers are written together up to this many bytes.
const WRITE_BATCH: usize = 128 * 1024;
/// What a connection may keep to write in.
const SMALL_BUFFER: usize = 16 * 1024;
/// Bytes that wait in the kernel: the rest waits here, where it can be held back and taken back.
const UNSENT: u32 = 64 * 1024;
/// Pieces that a running download finishes are told of together.
const HAVE_INTERVAL: Duration = Duration::from_millis(100);
/// A downloader that sees only some pieces and asks for none in this time is shown more.
const ASKS_WITHIN: Duration = Duration::from_millis(500);

pub struct Upload<'a> {
    seeder: &'a Seeder,
    offer: Offer,
    hello: PeerHello,
    reader: PeerReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    /// Whether our handshake was sent before.
    greeted: bool,
    place: &'a Place,
    /// Of a running download.
    progress: Option<watch::Receiver<u32>>,
    /// The pieces that it may know of.
    have: Bitfield,
    /// What it waits for, and whether anything came since it last waited for nothing.
    requests: Requests,
    busy: bool,
    /// Whether it got anything since.
    gave: bool,
    turn_end: TurnEnd,
    heard: Instant,
    wrote: Instant,
    program: Program,
    /// Its address, as far as limits go by it.
    machine: IpAddr,
    /// Whether it may ask, and has said that it wants to.
    choke: Choke,
    interested: bool,
    /// Its turn at the upload slots, while it has requests.
    turn: SlotTurn,
    out: BytesMut,
    /// Its place among the downloaders of a large payload, and what it may see at first if that is not everything.
    line: Option<Line>,
    seen: Option<Bitfield>,
    /// Whether pieces are shown one by one.
    paced: bool,
    /// How many requests it was told to keep in flight at most: now, and when it was last told that it may ask.
    reqq: u32,
    window: u32,
    /// How many requests may still come that it made before it heard that it is choked.
    late: u32,
    /// The ids under which this peer wants metadata and other peers.
    ut_metadata: Option<u8>,
    ut_pex: Option<u8>,
    /// Of the info dict; empty for a peer without extensions.
    metadata: Metadata,
    /// Whether it has said what it has: that is said once, at the start.
    said_all: bool,
    piece: KeptPiece,
}

impl<'a> Upload<'a> {
    pub fn new(seeder: &'a Seeder, offer: Offer, peer: Incoming, visit: Visit<'a>) -> Self {
        let Incoming {
            hello,
            reader,
            write,
            greeted,
        } = peer;
        let peer_id = PeerId::from_bytes(hello.peer_id);
        let program = peer_id.program();
        let address = reader.get_ref().peer_addr();
        let address = address.map_or(Ipv4Addr::UNSPECIFIED.into(), |address| {
            address.ip().to_canonical()
        });
        // Only makes the uplink's state known earlier; a socket that refuses still works.
        let _ = SockRef::from(write.as_ref()).set_tcp_notsent_lowat(UNSENT);
        // In this order: what is finished in between is told of.
        let progress = offer.progress();
        let have = offer.have();
        let machine = seeder.policy.machine_of(address);
        let (mut line, mut seen) = (None, None);
        let mut reqq = REQUEST_QUEUE;
        if offer.piece_count() >= CROWD_PIECES {
            let who = (address, peer_id.machine());
            let joining = Joining {
                machine,
                near: seeder.policy.is_confined(address),
                whole: progress.is_none(),
                holders: visit.holders,
                companion: program == Program::Companion,
                // librqbit would look for new pieces every 5 s only; our own downloads wake it.
                patient: program != Program::Rqbit,
            };
            let (joined, sees) =
                seeder
                    .crowds
                    .join(offer.info_hash, offer.piece_count(), who, joining);
            if !joining.whole || joined.news().crowded {
                reqq = crowd_request_queue(&offer);
            }
            (line, seen) = (Some(joined), sees);
        }
        Self {
            seeder,
            offer,
            hello,
            reader,
            write,
            greeted,
            place: visit.place,
            progress,
            have,
            requests: Requests::default(),
            busy: false,
            gave: false,
            turn_end: TurnEnd::default(),
            heard: Instant::now(),
            wrote: Instant::now(),
            program,
            machine,
            choke: Choke::Choked,
            interested: false,
            turn: SlotTurn::default(),
            out: BytesMut::new(),
            line,
            paced: seen.is_some(),
            seen,
            reqq,
            window: 0,
            late: 0,
            ut_metadata: None,
            ut_pex: None,
            metadata: Metadata::default(),
            said_all: false,
            piece: KeptPiece::default(),
        }
    }

    pub async fn run(mut self) -> Result<(), SeederError> {
        match self.converse().await {
            Err(SeederError::Wire(WireError::Closed)) => Ok(()),
            ended => ended,
        }
    }

    async fn converse(&mut self) -> Result<(), SeederError> {
        if !self.greeted {
            messages::put_handshake(
                &mut self.out,
                self.hello.info_hash,
                self.seeder.peer_id,
                true,
            );
        }
        let seen = self.seen.take();
        let mut hides = seen.is_some() && self.program != Program::Companion;
        let shown = seen.unwrap_or_else(|| self.have.clone());
        self.put_have(&shown);
        // The info dict may have to be computed first; whoever brings its own need not wait for that.
        let known = self.offer.known_info().await;
        if known.is_none() {
            self.flush().await?;
        }
        let info = match known {
            Some(info) => info,
            None => {
                self.works();
                let info = self.seeder.info(&self.offer, self.machine).await?;
                self.rests(true);
                info
            }
        };
        if self.hello.extended {
            self.metadata = Metadata::of(&info);
        }
        // Not before: while the info dict is computed nobody could take the invitation up.
        self.open();
        self.put_hello();
        self.flush().await?;
        self.heard = Instant::now();
        let mut told = Instant::now();
        let mut news_at = None;
        loop {
            // What has arrived comes before what is sent: it may take requests back.
            if self.takes_messages()
                && let Some(message) = self.reader.next().now_or_never()
            {
                self.act(message?, &info).await?;
                continue;
            }
            if !self.requests.is_empty() {
                if told.elapsed() >= HAVE_INTERVAL && has_news(&mut self.progress) {
                    told = Instant::now();
                    self.put_finished();
                }
                self.answer(&info).await?;
                continue;
            }
            self.flush().await?;
            self.rest();
            self.flush().await?;
            tokio::select! {
                message = timeout_at(self.heard + IDLE_TIMEOUT, self.reader.next()) => {
                    let message = message.map_err(|_| SeederError::Silent)?;
                    self.act(message?, &info).await?;
                }
                () = changed(&mut self.progress), if news_at.is_none() => {
                    news_at = Some(Instant::now() + HAVE_INTERVAL);
                }
                () = at(news_at) => {
                    news_at = None;
                    self.put_finished();
                    self.invite();
                }
                () = changed_line(self.line.as_ref()) => self.put_news(),
                // Nor does its buffer stay as large as an answer.
                () = self.piece.expires() => self.out = BytesMut::new(),
                () = self.choke.opens() => {
                    self.rests(true);
                    self.unchoke();
                }
                () = sleep_until(self.wrote + KEEP_ALIVE), if self.interested && !self.choke.is_open() => {
                    messages::put_keep_alive(&mut self.out);
                }
                () = tokio::time::sleep(ASKS_WITHIN), if hides && (self.choke.is_open() || !self.interested) => {
                    hides = self.line.as_ref().is_some_and(Line::waited);
                }
            }
        }
    }

    /// Whether there is room for what a message may bring.
    fn takes_messages(&self) -> bool {
        self.requests.have_room() && self.out.len() < WRITE_BATCH
    }

    async fn act(&mut self, message: PeerMessage, info: &InfoDict) -> Result<(), SeederError> {
        self.heard = Instant::now();
        quick_ack(self.reader.get_ref().as_ref());
        match message {
            PeerMessage::Request(request) => self.is_asked(info, request)?,
            PeerMessage::Cancel(request) => self.is_spared(&request),
            PeerMessage::Hello {
                ut_metadata,
                ut_pex,
                port,
                ..
            } => {
                (self.ut_metadata, self.ut_pex) = (ut_metadata, ut_pex);
                let ours = self.program != Program::Other;
                if let Some(line) = &self.line {
                    line.introduce(port, ut_pex.is_some(), ours);
                }
            }
            PeerMessage::Interested(interested) => self.is_interested(interested),
            PeerMessage::Have(piece) => self.has([piece]),
            PeerMessage::HaveAll | PeerMessage::Bitfield(_)
                if std::mem::replace(&mut self.said_all, true) => {}
            PeerMessage::HaveAll => self.has(0..self.offer.piece_count()),
            PeerMessage::Bitfield(bits) => {
                let pieces = 0..self.offer.piece_count();
                let has = |piece: &u32| {
                    bits.get((piece / 8) as usize)
                        .is_some_and(|byte| byte & (0x80 >> (piece % 8)) != 0)
                };
                self.has(pieces.filter(has));
            }
            PeerMessage::MetadataRequest(piece) => self.put_metadata(piece, info).await,
            PeerMessage::MetadataData { .. }
            | PeerMessage::MetadataReject
            | PeerMessage::Gossip(_)
            | PeerMessage::Peers(_)
            | PeerMessage::Other => {}
        }
        Ok(())
    }

    /// Its place is used, not only taken.
    fn works(&self) {
        self.place.works();
    }

    /// It is not, from now on; if nothing was made of it, as it was not before.
    fn rests(&self, was_of_use: bool) {
        self.place.rests(was_of_use);
    }

    fn has(&self, pieces: impl IntoIterator<Item = u32>) {
        if let Some(line) = &self.line {
            line.has(pieces);
        }
    }

    async fn flush(&mut self) -> Result<(), SeederError> {
        if !self.out.is_empty() {
            let mut write = std::pin::pin!(self.write.write_all(&self.out));
            let written = match timeout(TURN_TIME, &mut write).await {
                Ok(written) => written,
                Err(_) => {
                    // A slow peer need not keep a slot from others, nor an invitation.
                    self.turn.end();
                    self.choke.release();
                    self.piece.rest(&self.seeder.keeping);
                    let written = timeout(WRITE_TIMEOUT, write).await;
                    written.map_err(|_| SeederError::Silent)?
                }
            };
            written.map_err(SeederError::Write)?;
            self.out.clear();
            // Where no pieces are served, nothing else makes a buffer small again.
            if self.out.capacity() > SMALL_BUFFER && self.piece.is_none() {
                self.out = BytesMut::new();
            }
            self.wrote = Instant::now();
        }
        Ok(())
    }
}
