//! A peer's bytes on their way to librqbit, without the messages for which librqbit would pay without end: it keeps every
//! address of a PEX message and goes there, starts a task for each extension handshake, queues an answer to each
//! metadata request, and logs what it does not know.
//!
//! Frames are followed, not collected: in large reads everything else goes through where it lies. Of PEX the first
//! addresses of each message are handed to whoever passes the bytes on.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::torrent::InfoHash;

use super::incoming::quick_ack;
use super::messages::{EXTENSION_HANDSHAKE, ID_EXTENDED, OUR_UT_METADATA, OUR_UT_PEX};
use super::wire::{self, HANDSHAKE_LEN, PeerMessage};

/// Four blocks.
const BUFFER: usize = 64 * 1024;
/// Our own seeder says hello again when it gets crowded.
const MAX_HELLOS: u32 = 16;
/// Pieces of the info dict, of which there are seven at most, that a peer may ask for.
const MAX_METADATA: u32 = 32;
/// PEX messages that are read: BEP 11 asks for one a minute, and for a hundred addresses at most.
const MAX_PEX: u32 = 64;
const MAX_PEX_FRAME: usize = 8 * 1024;
/// Extension messages of a connection; nobody with something else to say says so many, or one so long.
const MAX_EXTENDED: u32 = 1024;
const MAX_EXTENDED_FRAME: usize = 64 * 1024;
/// Where the info hash is in the handshake.
const INFO_HASH: std::ops::Range<usize> = 28..48;

/// What becomes of the frame that comes.
#[derive(Debug, Default)]
enum Fate {
    #[default]
    Passes,
    Stays,
    /// It stays, and is read.
    Read(Vec<u8>),
}

/// How far the bytes of one connection were followed.
#[derive(Debug, Default)]
struct Sieve {
    /// Known after the handshake.
    info_hash: Option<InfoHash>,
    /// Bytes of the frame that have not come yet.
    left: usize,
    fate: Fate,
    hellos: u32,
    metadata: u32,
    pex: u32,
    extended: u32,
    /// Of which the peer told, and which were not taken yet.
    told: Vec<SocketAddr>,
}

/// Parts of what was sifted: so many bytes at its start go on, so many at its end wait for what comes after them.
#[derive(Debug, PartialEq, Eq)]
struct Sifted {
    pass: usize,
    wait: usize,
}

/// Passes on what was read already, from the handshake on, and what comes after it, until the peer closes. Returns how
/// many bytes went on. `heard` takes the addresses of which the peer tells.
pub async fn sift(
    first: &[u8],
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    heard: impl Fn(&InfoHash, Vec<SocketAddr>),
) -> io::Result<u64> {
    let mut sieve = Sieve::default();
    let mut buffer = first.to_vec();
    buffer.resize(first.len() + BUFFER, 0);
    let (mut filled, mut passed) = (first.len(), 0);
    loop {
        let Sifted { pass, wait } = sieve.sift(&mut buffer[..filled])?;
        if pass > 0 {
            to.write_all(&buffer[..pass]).await?;
            passed += pass as u64;
        }
        if let (Some(info_hash), false) = (&sieve.info_hash, sieve.told.is_empty()) {
            heard(info_hash, std::mem::take(&mut sieve.told));
        }
        buffer.copy_within(filled - wait..filled, 0);
        // Whoever has Nagle on waits for the acknowledgement: it is not to be delayed.
        quick_ack(from.as_ref());
        match from.read(&mut buffer[wait..]).await? {
            0 => return Ok(passed),
            count => filled = wait + count,
        }
    }
}

impl Sieve {
    /// Moves what goes on to the start of `bytes`.
    fn sift(&mut self, bytes: &mut [u8]) -> io::Result<Sifted> {
        let (mut at, mut pass) = (0, 0);
        while at < bytes.len() {
            if self.left == 0 && !self.begin(&bytes[at..])? {
                break;
            }
            let end = at + self.left.min(bytes.len() - at);
            match &mut self.fate {
                Fate::Passes => {
                    if pass < at {
                        bytes.copy_within(at..end, pass);
                    }
                    pass += end - at;
                }
                Fate::Stays => {}
                Fate::Read(frame) => frame.extend_from_slice(&bytes[at..end]),
            }
            self.left -= end - at;
            at = end;
            if self.left == 0 {
                self.end();
            }
        }
        let wait = bytes.len() - at;
        Ok(Sifted { pass, wait })
    }

    /// Whether there is enough to see what begins here. What librqbit could act on never waits.
    fn begin(&mut self, bytes: &[u8]) -> io::Result<bool> {
        if self.info_hash.is_none() {
            let Some(handshake) = bytes.first_chunk::<HANDSHAKE_LEN>() else {
                return Ok(false);
            };
            let mut info_hash = [0; 20];
            info_hash.copy_from_slice(&handshake[INFO_HASH]);
            self.info_hash = Some(InfoHash::from_bytes(info_hash));
            (self.left, self.fate) = (HANDSHAKE_LEN, Fate::Passes);
            return Ok(true);
        }
        let Some((length, message)) = bytes.split_first_chunk::<4>() else {
            return Ok(false);
        };
        let length = u32::from_be_bytes(*length) as usize;
        self.fate = match message {
            _ if length == 0 => Fate::Passes,
            [] => return Ok(false),
            [id, ..] if *id != ID_EXTENDED || length == 1 => Fate::Passes,
            [_] => return Ok(false),
            [_, extension, ..] => self.judge(*extension, length)?,
        };
        self.left = length.saturating_add(4);
        Ok(true)
    }

    /// What becomes of an extension message (BEP 10).
    fn judge(&mut self, extension: u8, length: usize) -> io::Result<Fate> {
        self.extended += 1;
        if self.extended > MAX_EXTENDED || length > MAX_EXTENDED_FRAME {
            return Err(io::Error::other("a flood of extension messages"));
        }
        let (count, most) = match extension {
            EXTENSION_HANDSHAKE => (&mut self.hellos, MAX_HELLOS),
            OUR_UT_METADATA => (&mut self.metadata, MAX_METADATA),
            OUR_UT_PEX if length <= MAX_PEX_FRAME => (&mut self.pex, MAX_PEX),
            _ => return Ok(Fate::Stays),
        };
        *count += 1;
        Ok(match extension {
            _ if *count > most => Fate::Stays,
            OUR_UT_PEX => Fate::Read(Vec::with_capacity(4 + length)),
            _ => Fate::Passes,
        })
    }

    /// A frame is whole.
    fn end(&mut self) {
        if let Fate::Read(frame) = std::mem::take(&mut self.fate)
            && let Ok(PeerMessage::Peers(peers)) = wire::decode(frame.into())
        {
            self.told.extend(peers);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::super::messages;
    use super::*;

    const HASH: [u8; 20] = [7; 20];

    fn greeting() -> BytesMut {
        let mut out = BytesMut::new();
        messages::put_handshake(&mut out, InfoHash::from_bytes(HASH), [1; 20], false);
        out
    }

    /// What goes on of these bytes when they come in parts of this size, and of whom they tell.
    fn sifted(bytes: &[u8], size: usize) -> io::Result<(Vec<u8>, Vec<SocketAddr>)> {
        let (mut sieve, mut waits, mut passed) = (Sieve::default(), Vec::new(), Vec::new());
        for part in bytes.chunks(size) {
            waits.extend_from_slice(part);
            let Sifted { pass, wait } = sieve.sift(&mut waits)?;
            passed.extend_from_slice(&waits[..pass]);
            waits.drain(..waits.len() - wait);
        }
        assert!(waits.is_empty(), "{waits:?}");
        assert_eq!(sieve.info_hash, Some(InfoHash::from_bytes(HASH)));
        Ok((passed, sieve.told))
    }

    #[test]
    fn pex_stays_and_everything_else_passes_however_it_comes() {
        let peers: [SocketAddr; 2] = ["192.0.2.1:1", "[2001:db8::1]:2"].map(|p| p.parse().unwrap());
        let mut all = greeting();
        messages::put_bitfield(&mut all, &[0xff; 3]);
        messages::put_extended(&mut all, EXTENSION_HANDSHAKE, b"de");
        messages::put_keep_alive(&mut all);
        let mut expected = all.clone();
        messages::put_peers(&mut all, OUR_UT_PEX, &peers);
        messages::put_extended(&mut all, OUR_UT_PEX, b"no bencode");
        messages::put_extended(&mut all, OUR_UT_PEX, &[0; MAX_PEX_FRAME]);
        messages::put_extended(&mut all, 77, b"unknown");
        for out in [&mut all, &mut expected] {
            // Its bytes look like PEX from the inside.
            let mut block = BytesMut::new();
            messages::put_peers(&mut block, OUR_UT_PEX, &peers);
            messages::put_block(out, 3, 0, &block);
            messages::put_frame(out, ID_EXTENDED, &[]);
            messages::put_unchoke(out);
        }
        for size in 1..=all.len() {
            let (passed, told) = sifted(&all, size).unwrap();
            assert!(passed == expected, "in parts of {size}");
            assert_eq!(told, peers);
        }
    }

    #[test]
    fn what_is_whole_does_not_wait() {
        let mut sieve = Sieve::default();
        let mut bytes = greeting();
        messages::put_unchoke(&mut bytes);
        // A keep-alive, and the start of a block.
        bytes.extend_from_slice(&[0, 0, 0, 0, 0, 0, 64, 9, 7]);
        let length = bytes.len();
        let all = Sifted {
            pass: length,
            wait: 0,
        };
        assert_eq!(sieve.sift(&mut bytes).unwrap(), all);
    }

    #[test]
    fn extension_messages_are_bounded() {
        let mut bytes = greeting();
        let start = bytes.len();
        (0..400).for_each(|_| messages::put_extended(&mut bytes, EXTENSION_HANDSHAKE, b"de"));
        let frame = (bytes.len() - start) / 400;
        let request = b"d8:msg_typei0e5:piecei0ee";
        (0..400).for_each(|_| messages::put_extended(&mut bytes, OUR_UT_METADATA, request));
        let (passed, _) = sifted(&bytes, BUFFER).unwrap();
        let hellos = MAX_HELLOS as usize * frame;
        let requests = MAX_METADATA as usize * (6 + request.len());
        assert_eq!(passed.len(), start + hellos + requests);
        let peer: SocketAddr = ([192, 0, 2, 1], 1).into();
        (0..200).for_each(|_| messages::put_peers(&mut bytes, OUR_UT_PEX, &[peer]));
        let (_, told) = sifted(&bytes, BUFFER).unwrap();
        assert_eq!(told.len(), MAX_PEX as usize);
        (0..25).for_each(|_| messages::put_extended(&mut bytes, 77, b""));
        assert!(sifted(&bytes, BUFFER).is_err());
        let mut long = greeting();
        long.extend_from_slice(&[0xff, 0xff, 0xff, 0xff, ID_EXTENDED, OUR_UT_PEX]);
        assert!(sifted(&long, BUFFER).is_err());
    }
}
