//! A downloader that sends what a test wants, byte by byte, from an address of its own.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use narswarm::torrent::{InfoDict, InfoHash};
use socket2::{Domain, Socket, Type};

const PROTOCOL: &[u8] = b"\x13BitTorrent protocol";
/// The bits of BEP 10, and of BEP 6 as well.
const RESERVED: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0];
const FAST: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 0x04];
/// A seeder may have to make the frame first, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
/// BEP 3.
const BITFIELD: u8 = 5;
const BLOCK: u32 = 16 * 1024;

/// All of 127.0.0.0/8 is this machine: each of these counts as another one.
pub fn host(i: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 0, i).into()
}

pub struct RawPeer(pub TcpStream);

impl RawPeer {
    /// Connects from `from` and says nothing.
    pub fn connect(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect(&to.into())?;
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// The same with both handshakes done.
    pub fn meet(from: IpAddr, to: SocketAddr, info_hash: &InfoHash) -> io::Result<Self> {
        Self::shake_hands(from, to, info_hash, RESERVED)
    }

    /// One that speaks BEP 6.
    pub fn meet_fast(from: IpAddr, to: SocketAddr, info_hash: &InfoHash) -> io::Result<Self> {
        Self::shake_hands(from, to, info_hash, FAST)
    }

    fn shake_hands(
        from: IpAddr,
        to: SocketAddr,
        info_hash: &InfoHash,
        reserved: [u8; 8],
    ) -> io::Result<Self> {
        let mut peer = Self::connect(from, to)?;
        let mut hello = [PROTOCOL, &reserved, info_hash.as_bytes(), b"-XX0001-"].concat();
        // Another peer id for each connection: its own port.
        let port = peer.0.local_addr()?.port();
        hello.extend(format!("{port:012}").as_bytes());
        peer.0.write_all(&hello)?;
        peer.0.read_exact(&mut [0; 68])?;
        Ok(peer)
    }

    pub fn send(&mut self, id: u8, body: &[u8]) -> io::Result<()> {
        let mut frame = (1 + body.len() as u32).to_be_bytes().to_vec();
        frame.push(id);
        frame.extend(body);
        self.0.write_all(&frame)
    }

    pub fn request(&mut self, piece: u32, begin: u32, length: u32) -> io::Result<()> {
        let body = [piece, begin, length].map(u32::to_be_bytes).concat();
        self.send(6, &body)
    }

    /// The next message: its id and what follows.
    pub fn next(&mut self) -> io::Result<(u8, Vec<u8>)> {
        loop {
            let mut length = [0; 4];
            self.0.read_exact(&mut length)?;
            let mut frame = vec![0; u32::from_be_bytes(length) as usize];
            self.0.read_exact(&mut frame)?;
            if !frame.is_empty() {
                return Ok((frame.remove(0), frame));
            }
        }
    }

    /// Whether the peer's bitfield says that it has all of this.
    pub fn has_everything(&mut self, info: &InfoDict) -> io::Result<bool> {
        loop {
            if let (BITFIELD, bits) = self.next()? {
                let ones: u32 = bits.iter().map(|byte| byte.count_ones()).sum();
                return Ok(ones == info.piece_count());
            }
        }
    }

    /// A whole piece, block by block.
    pub fn piece(&mut self, piece: u32, length: u32) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length as usize];
        for begin in (0..length).step_by(BLOCK as usize) {
            self.request(piece, begin, BLOCK.min(length - begin))?;
        }
        let mut missing = length.div_ceil(BLOCK);
        while missing > 0 {
            if let (7, body) = self.next()? {
                let begin = u32::from_be_bytes(body[4..8].try_into().unwrap()) as usize;
                bytes[begin..begin + body.len() - 8].copy_from_slice(&body[8..]);
                missing -= 1;
            }
        }
        Ok(bytes)
    }

    /// Until the other side hangs up. Returns false when it does not.
    pub fn is_hung_up_on(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
            match self.0.read(&mut buffer) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    let waits = [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut];
                    return !waits.contains(&error.kind());
                }
            }
        }
    }
}
