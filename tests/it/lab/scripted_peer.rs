//! A peer that does what a test tells it: it knows one payload, and serves it well, badly or not at all.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use narswarm::{payload::describe, torrent::InfoDict};

const PROTOCOL: &[u8] = b"\x13BitTorrent protocol";
/// BEP 9: metadata travels in pieces of 16 KiB.
const METADATA_PIECE: usize = 16 * 1024;
const OUR_METADATA_ID: u8 = 3;
const OUR_PEX_ID: u8 = 1;
/// What BEP 11 allows in one message, and what fits into one.
const FEW_PEERS: usize = 50;
const MANY_PEERS: usize = 2600;
/// A block is sent in parts as the rate allows.
const TICK: Duration = Duration::from_millis(50);

/// How it behaves once it has shaken hands; all but `Noise` send the info dict and say that they have everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    Honest,
    /// Never sends a block.
    Stalls,
    /// Sends blocks of other bytes.
    Garbage,
    /// Sends no BitTorrent at all.
    Noise,
    /// Refuses every piece that it said it has.
    Lies,
    /// Hangs up, and is gone, after so many bytes of blocks.
    Vanishes(u64),
    /// So many bytes a second.
    Slow(u64),
    /// Never sends a block, and tells instead of ever more peers, all of them at this port of this machine; then it says
    /// hello again and again.
    Gossips(u16),
    /// The first block that it sends leaves so long after it was asked for.
    Late(Duration),
}

/// The payload of a NAR, and what describes it.
#[derive(Clone)]
pub struct Payload {
    pub bytes: Arc<Vec<u8>>,
    pub info: Arc<InfoDict>,
}

pub fn payload_of(nar: &[u8]) -> Payload {
    let mut bytes = Vec::new();
    let described = describe(&mut &nar[..], nar.len() as u64, |frame| {
        bytes.extend_from_slice(frame);
        Ok(())
    });
    Payload {
        bytes: Arc::new(bytes),
        info: Arc::new(described.unwrap().info),
    }
}

pub struct ScriptedPeer {
    pub address: SocketAddr,
    script: Arc<Script>,
}

struct Script {
    payload: Payload,
    manner: Manner,
    sent: AtomicU64,
    gossiped: AtomicU64,
    gone: AtomicBool,
}

impl ScriptedPeer {
    pub fn start(payload: &Payload, manner: Manner) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(Script {
            payload: payload.clone(),
            manner,
            sent: AtomicU64::new(0),
            gossiped: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        thread::spawn({
            let script = script.clone();
            move || {
                for stream in listener.incoming() {
                    if script.gone.load(Relaxed) {
                        return;
                    }
                    let script = script.clone();
                    // Whoever hangs up has his reasons.
                    thread::spawn(move || stream.and_then(|stream| script.serve(stream)));
                }
            }
        });
        Self { address, script }
    }

    /// Bytes of blocks that it sent.
    pub fn sent(&self) -> u64 {
        self.script.sent.load(Relaxed)
    }

    /// Messages about others and hellos that were taken from it.
    pub fn gossiped(&self) -> u64 {
        self.script.gossiped.load(Relaxed)
    }
}

impl Drop for ScriptedPeer {
    fn drop(&mut self) {
        self.script.gone.store(true, Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Script {
    fn serve(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        if self.manner == Manner::Noise {
            return stream.write_all(&[0x5a; 4000]);
        }
        let mut hello = [0; 68];
        stream.read_exact(&mut hello)?;
        let info_hash = self.payload.info.info_hash();
        if hello[28..48] != info_hash.as_bytes()[..] {
            return Ok(());
        }
        let mut reserved = [0; 8];
        reserved[5] = 0x10;
        stream.write_all(
            &[
                PROTOCOL,
                &reserved,
                info_hash.as_bytes(),
                b"-SC0000-scriptedpeer",
            ]
            .concat(),
        )?;
        let info = self.payload.info.encode();
        let extended = format!(
            "d1:md11:ut_metadatai{OUR_METADATA_ID}e6:ut_pexi{OUR_PEX_ID}ee13:metadata_sizei{}ee",
            info.len()
        );
        send(&mut stream, 20, &[&[0], extended.as_bytes()].concat())?;
        let pieces = self.payload.info.piece_count() as usize;
        let mut have = vec![0xff; pieces.div_ceil(8)];
        if !pieces.is_multiple_of(8) {
            *have.last_mut().unwrap() <<= 8 - pieces % 8;
        }
        send(&mut stream, 5, &have)?;
        send(&mut stream, 1, &[])?;
        if let Manner::Gossips(port) = self.manner {
            self.gossip(&mut stream, port, extended.as_bytes())?;
        }
        let mut their_metadata_id = 0;
        loop {
            let message = receive(&mut stream)?;
            match message.split_first() {
                Some((20, [0, hello @ ..])) => their_metadata_id = metadata_id(hello),
                Some((20, [OUR_METADATA_ID, request @ ..])) => {
                    let piece = number_after(request, b"5:piecei") as usize;
                    let part = info.chunks(METADATA_PIECE).nth(piece).unwrap_or_default();
                    let head = format!(
                        "d8:msg_typei1e5:piecei{piece}e10:total_sizei{}ee",
                        info.len()
                    );
                    let answer = [&[their_metadata_id], head.as_bytes(), part].concat();
                    send(&mut stream, 20, &answer)?;
                }
                Some((6, request)) if request.len() == 12 => self.block(&mut stream, request)?,
                _ => {}
            }
        }
    }

    fn gossip(&self, stream: &mut TcpStream, port: u16, hello: &[u8]) -> std::io::Result<()> {
        let address = |i: usize| [127, 9, (i / 250) as u8, (i % 250) as u8 + 1];
        let mut known = 0;
        for count in [[FEW_PEERS; 50], [MANY_PEERS; 50]].concat() {
            let peers = (known..known + count).flat_map(|i| {
                // Beyond 127.9 it is another port each time.
                let port = port.wrapping_add((i / 60_000) as u16).to_be_bytes();
                [&address(i % 60_000)[..], &port].concat()
            });
            let head = format!("d5:added{}:", 6 * count).into_bytes();
            known += count;
            let pex = [&[OUR_PEX_ID][..], &head, &peers.collect::<Vec<u8>>(), b"e"].concat();
            send(stream, 20, &pex)?;
            self.gossiped.fetch_add(1, Relaxed);
        }
        for _ in 0..50_000 {
            send(stream, 20, &[&[0], hello].concat())?;
            self.gossiped.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    fn block(&self, stream: &mut TcpStream, request: &[u8]) -> std::io::Result<()> {
        let number = |at: usize| u32::from_be_bytes(request[at..at + 4].try_into().unwrap());
        let (piece, begin, length) = (number(0), number(4), number(8) as usize);
        let start = self.payload.info.piece_range(piece).start as usize + begin as usize;
        let mut block = self.payload.bytes[start..start + length].to_vec();
        match self.manner {
            Manner::Stalls | Manner::Noise | Manner::Gossips(_) => return Ok(()),
            // Without the fast extension there is no other way to refuse.
            Manner::Lies => return stream.shutdown(std::net::Shutdown::Both),
            Manner::Garbage => block.iter_mut().for_each(|byte| *byte ^= 0x55),
            Manner::Vanishes(after) if self.sent.load(Relaxed) >= after => {
                self.gone.store(true, Relaxed);
                return stream.shutdown(std::net::Shutdown::Both);
            }
            Manner::Late(time) if self.sent.load(Relaxed) == 0 => thread::sleep(time),
            Manner::Honest | Manner::Vanishes(_) | Manner::Slow(_) | Manner::Late(_) => {}
        }
        self.sent.fetch_add(length as u64, Relaxed);
        let size = (9 + length as u32).to_be_bytes();
        stream.write_all(&[&size[..], &[7], &request[..8]].concat())?;
        match self.manner {
            Manner::Slow(rate) => {
                let each = (rate as f64 * TICK.as_secs_f64()).ceil() as usize;
                for part in block.chunks(each) {
                    stream.write_all(part)?;
                    thread::sleep(TICK);
                }
                Ok(())
            }
            _ => stream.write_all(&block),
        }
    }
}

fn send(stream: &mut TcpStream, id: u8, content: &[u8]) -> std::io::Result<()> {
    let length = (content.len() as u32 + 1).to_be_bytes();
    stream.write_all(&[&length[..], &[id], content].concat())
}

fn receive(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let mut message = vec![0; u32::from_be_bytes(length).min(1 << 20) as usize];
    stream.read_exact(&mut message)?;
    Ok(message)
}

fn metadata_id(hello: &[u8]) -> u8 {
    number_after(hello, b"11:ut_metadatai") as u8
}

/// The number that follows `key` in a bencoded message.
fn number_after(message: &[u8], key: &[u8]) -> u64 {
    let at = message.windows(key.len()).position(|part| part == key);
    let digits = at.map_or(&[][..], |at| &message[at + key.len()..]);
    let digits = digits.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}
