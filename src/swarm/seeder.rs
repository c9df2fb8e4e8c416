//! The seeder: the upload side of one peer connection, for everything that this machine offers.
//!
//! One write opens the conversation (handshake, pieces, unchoke, extension handshake), so that a downloader's first
//! request leaves after one round trip; delayed ACKs are off, because a small NAR would wait 40 ms for one.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::runtime::Counters;
use crate::torrent::{Bitfield, InfoDict};

use super::incoming::{Incoming, quick_ack};
use super::limits::UploadLimit;
use super::messages::{self, OurHello};
use super::offer::{Offer, OfferError};
use super::offer_book::OfferBook;
use super::wire::{MAX_REQUEST, PeerHello, PeerMessage, PeerReader, WireError};

/// BEP 3 sends a keep-alive every two minutes; after this silence the peer is gone.
const IDLE_TIMEOUT: Duration = Duration::from_secs(150);
/// A peer that takes no bytes for so long only holds memory.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// Requests that a peer may have waiting at us: enough to fill 100 Mbit/s at 300 ms.
const REQUEST_QUEUE: u32 = 250;
/// Answers are written together up to this many bytes.
const WRITE_BATCH: usize = 128 * 1024;
/// BEP 9: metadata travels in pieces of 16 KiB.
const METADATA_PIECE: usize = 16 * 1024;

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
    #[error("the peer asked for piece {index}, {begin}+{length}, which does not exist")]
    BadRequest { index: u32, begin: u32, length: u32 },
}

/// What all connections share.
pub struct Seeder {
    pub book: Arc<OfferBook>,
    pub limit: UploadLimit,
    pub counters: Arc<Counters>,
    pub peer_id: [u8; 20],
    pub port: u16,
}

impl Seeder {
    /// Serves one connection until the peer is done.
    pub async fn serve(&self, offer: Offer, peer: Incoming) -> Result<(), SeederError> {
        let Incoming {
            hello,
            reader,
            write,
            greeted,
        } = peer;
        let upload = Upload {
            seeder: self,
            offer,
            hello,
            reader,
            write,
            greeted,
            out: BytesMut::new(),
            ut_metadata: None,
            piece: None,
        };
        upload.run().await
    }
}

struct Upload<'a> {
    seeder: &'a Seeder,
    offer: Offer,
    hello: PeerHello,
    reader: PeerReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
    greeted: bool,
    out: BytesMut,
    /// The id under which this peer wants metadata.
    ut_metadata: Option<u8>,
    /// The piece served last: its other blocks are asked next.
    piece: Option<(u32, bytes::Bytes)>,
}

impl Upload<'_> {
    async fn run(mut self) -> Result<(), SeederError> {
        let mut have = self.offer.have();
        let mut progress = self.offer.progress();
        if !self.greeted {
            messages::put_handshake(
                &mut self.out,
                self.hello.info_hash,
                self.seeder.peer_id,
                true,
            );
        }
        self.put_have(&have);
        messages::put_unchoke(&mut self.out);
        // The info dict may have to be computed first; whoever brings its own need not wait for that.
        let known = self.offer.known_info().await;
        if known.is_none() {
            self.flush().await?;
        }
        let info = match known {
            Some(info) => info,
            None => self.offer.info().await?,
        };
        let encoded = if self.hello.extended {
            info.encode()
        } else {
            Vec::new()
        };
        self.put_hello(&encoded);
        self.flush().await?;
        loop {
            let message = match self.reader.buffered()? {
                Some(message) if self.out.len() < WRITE_BATCH => message,
                buffered => {
                    self.flush().await?;
                    match buffered {
                        Some(message) => message,
                        None => {
                            tokio::select! {
                                message = timeout(IDLE_TIMEOUT, self.reader.next()) => match message {
                                    Ok(Err(WireError::Closed)) => return Ok(()),
                                    Ok(message) => message?,
                                    Err(_) => return Err(SeederError::Silent),
                                },
                                () = changed(&mut progress) => {
                                    self.put_news(&mut have);
                                    continue;
                                }
                            }
                        }
                    }
                }
            };
            quick_ack(self.reader.get_ref().as_ref());
            match message {
                PeerMessage::Request {
                    index,
                    begin,
                    length,
                } => self.answer(&info, &have, index, begin, length).await?,
                PeerMessage::Hello { ut_metadata, .. } => self.ut_metadata = ut_metadata,
                PeerMessage::MetadataRequest(piece) => self.put_metadata(&encoded, piece),
                PeerMessage::MetadataData { .. }
                | PeerMessage::MetadataReject
                | PeerMessage::Gossip(_)
                | PeerMessage::Other => {}
            }
        }
    }

    fn put_have(&mut self, have: &Bitfield) {
        match (self.hello.fast, have.is_full(), have.ones()) {
            (true, true, _) => messages::put_have_all(&mut self.out),
            (true, false, 0) => messages::put_have_none(&mut self.out),
            _ => messages::put_bitfield(&mut self.out, have.as_bytes()),
        }
    }

    fn put_hello(&mut self, encoded: &[u8]) {
        if self.hello.extended {
            let hello = OurHello {
                gossip: false,
                port: Some(self.seeder.port),
                metadata_size: u32::try_from(encoded.len()).ok(),
                reqq: REQUEST_QUEUE,
                upload_only: self.offer.have().is_full(),
            };
            messages::put_hello(&mut self.out, &hello);
        }
    }

    /// Pieces of a running download that were finished since we last said so.
    fn put_news(&mut self, have: &mut Bitfield) {
        let now = self.offer.have();
        for piece in 0..self.offer.piece_count() {
            if now.get(piece) && have.set(piece) {
                messages::put_have(&mut self.out, piece);
            }
        }
    }

    fn put_metadata(&mut self, encoded: &[u8], piece: u32) {
        let Some(id) = self.ut_metadata else {
            return;
        };
        match encoded.chunks(METADATA_PIECE).nth(piece as usize) {
            Some(data) => {
                messages::put_metadata_data(&mut self.out, id, piece, encoded.len() as u32, data)
            }
            None => messages::put_metadata_reject(&mut self.out, id, piece),
        }
    }

    async fn answer(
        &mut self,
        info: &InfoDict,
        have: &Bitfield,
        index: u32,
        begin: u32,
        length: u32,
    ) -> Result<(), SeederError> {
        let within = index < info.piece_count()
            && length > 0
            && length <= MAX_REQUEST
            && begin
                .checked_add(length)
                .is_some_and(|end| end <= info.piece_len(index));
        if !within {
            return Err(SeederError::BadRequest {
                index,
                begin,
                length,
            });
        }
        if !have.get(index) {
            if self.hello.fast {
                messages::put_reject(&mut self.out, index, begin, length);
            }
            return Ok(());
        }
        let piece = match &self.piece {
            Some((last, piece)) if *last == index => piece.clone(),
            _ => self.offer.piece(index).await?,
        };
        let block = piece.slice(begin as usize..(begin + length) as usize);
        self.piece = Some((index, piece));
        self.seeder.limit.wait(block.len()).await;
        messages::put_block(&mut self.out, index, begin, &block);
        self.seeder.counters.uploaded(block.len() as u64);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), SeederError> {
        if !self.out.is_empty() {
            let written = timeout(WRITE_TIMEOUT, self.write.write_all(&self.out))
                .await
                .map_err(|_| SeederError::Silent)?;
            written.map_err(SeederError::Write)?;
            self.out.clear();
        }
        Ok(())
    }
}

/// Resolves when a running download has more pieces; never for a whole payload.
async fn changed(progress: &mut Option<watch::Receiver<u32>>) {
    let ended = match progress {
        Some(receiver) => receiver.changed().await.is_err(),
        None => true,
    };
    if ended {
        *progress = None;
        std::future::pending::<()>().await;
    }
}
