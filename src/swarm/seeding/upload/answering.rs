//! Answers requests: each in its turn at the upload slots, within the rates, unless the peer takes it back before.

use std::pin::pin;

use tokio::time::{Instant, sleep_until};

use crate::swarm::protocol::{BLOCK, MAX_REQUEST, Request, messages};
use crate::swarm::seeding::seeder::SeederError;
use crate::torrent::InfoDict;

use super::slot_turn::SlotTurn;
use super::{KEEP_ALIVE, Upload, WRITE_BATCH};

/// What a request for less than that counts for, unless it is for the rest of a piece.
const LEAST_CHARGED: usize = BLOCK as usize;

impl Upload<'_> {
    pub(super) fn is_asked(
        &mut self,
        info: &InfoDict,
        request: Request,
    ) -> Result<(), SeederError> {
        let Request { index, length, .. } = request;
        let within = index < info.piece_count()
            && length > 0
            && length <= MAX_REQUEST
            && request
                .end()
                .is_some_and(|end| end <= info.piece_len(index));
        if !within {
            return Err(SeederError::BadRequest(request));
        }
        let may_ask = self.may_ask();
        if !may_ask && !self.hello.fast {
            // It could not be told, and would wait for ever.
            return Err(SeederError::Choked);
        }
        if !may_ask || !self.have.get(index) {
            self.refuse(&request);
            return Ok(());
        }
        if !std::mem::replace(&mut self.busy, true) {
            self.works();
        }
        self.requests.push(request);
        Ok(())
    }

    /// It has got that elsewhere.
    pub(super) fn is_spared(&mut self, request: &Request) {
        if self.requests.cancel(request) {
            self.refuse(request);
        }
    }

    /// BEP 6: whoever speaks it is told.
    fn refuse(&mut self, request: &Request) {
        if self.hello.fast {
            messages::put_reject(&mut self.out, request);
        }
    }

    /// Answers one request, or waits for the turn to do so.
    pub(super) async fn answer(&mut self, info: &InfoDict) -> Result<(), SeederError> {
        if self.has_had_its_turn() {
            self.choke();
        }
        if !self.turn.goes_on(&self.seeder.slots) {
            self.flush().await?;
            return self.wait_for_turn(info).await;
        }
        let Some(request) = self.requests.pop() else {
            return Ok(());
        };
        let Request { index, begin, .. } = request;
        let piece = match self.piece.get(index) {
            Some(piece) => piece,
            None => self.offer.piece(index).await?,
        };
        let end = begin + request.length;
        let block = piece.slice(begin as usize..end as usize);
        self.piece.put(index, piece);
        self.turn.sent(block.len());
        self.gave = true;
        self.seeder.invitations.gave(self.want(), block.len());
        // A few bytes of each piece would make us encode everything for next to nothing. Only the last block is short.
        let is_last =
            end == info.piece_len(index) && (begin as usize).is_multiple_of(LEAST_CHARGED);
        let charged = match is_last {
            true => block.len(),
            false => block.len().max(LEAST_CHARGED),
        };
        self.turn_end.gave(charged, end == info.piece_len(index));
        self.seeder.rates.wait(self.machine, charged).await;
        messages::put_block(&mut self.out, index, begin, &block);
        let (counters, channel) = (&self.seeder.counters, &self.offer.channel);
        counters.uploaded(channel, block.len() as u64);
        if let Some(line) = self.line.as_ref().filter(|_| end == info.piece_len(index)) {
            line.sent(index);
            // Not only when there are no requests left: by then the peer has seen nothing to ask for.
            self.put_news();
        }
        if self.out.len() >= WRITE_BATCH {
            self.flush().await?;
        }
        Ok(())
    }

    /// Waits for an upload slot, or until there is something else to do. Nothing is written while it is in the queue: a peer
    /// that does not read would keep the slot that it is given then.
    async fn wait_for_turn(&mut self, info: &InfoDict) -> Result<(), SeederError> {
        self.piece.rest(&self.seeder.keeping);
        let slots = &self.seeder.slots;
        let mut turn = pin!(slots.take(self.offer.info_hash, self.machine));
        while !self.requests.is_empty() && self.out.is_empty() {
            tokio::select! {
                turn = &mut turn => {
                    self.turn = SlotTurn::begin(turn);
                    return Ok(());
                }
                message = self.reader.next(), if self.takes_messages() => {
                    self.act(message?, info).await?;
                }
                () = sleep_until(self.wrote + KEEP_ALIVE) => self.keep_alive(),
            }
        }
        Ok(())
    }

    /// Where the socket takes nothing, the peer has not read what it was sent, and hears from us when it does.
    fn keep_alive(&mut self) {
        self.wrote = Instant::now();
        if let Ok(written) = self.write.try_write(&messages::KEEP_ALIVE) {
            self.out.extend_from_slice(&messages::KEEP_ALIVE[written..]);
        }
    }

    /// All requests are answered.
    pub(super) fn rest(&mut self) {
        self.turn.end();
        self.piece.rest(&self.seeder.keeping);
        if std::mem::take(&mut self.busy) {
            self.choke.release();
            let gave = std::mem::take(&mut self.gave);
            if !self.choke.waits() {
                self.rests(gave);
            }
            self.heard = Instant::now();
            if self.has_had_its_turn() {
                self.choke();
            }
            self.turn_end.rests();
        }
        self.invite();
    }
}
