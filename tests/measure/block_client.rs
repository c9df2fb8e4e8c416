//! A downloader of single blocks, as plain as the protocol allows.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use narswarm::torrent::InfoDict;

const UNCHOKE: u8 = 1;
const HAVE: u8 = 4;
const BITFIELD: u8 = 5;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const BLOCK: u32 = 16 * 1024;

pub struct BlockClient {
    stream: TcpStream,
    have: Vec<bool>,
    unchoked: bool,
}

impl BlockClient {
    /// Returns when the seeder has said hello.
    pub fn connect(seeder: SocketAddr, info: &InfoDict) -> Self {
        let mut stream = TcpStream::connect(seeder).unwrap();
        stream.set_nodelay(true).unwrap();
        // No reserved bits: no extensions of any kind.
        let mut hello = b"\x13BitTorrent protocol\0\0\0\0\0\0\0\0".to_vec();
        hello.extend(info.info_hash().as_bytes());
        hello.extend(b"-BLOCK-000000000000x");
        stream.write_all(&hello).unwrap();
        stream.read_exact(&mut [0; 68]).unwrap();
        Self {
            stream,
            have: vec![false; info.piece_count() as usize],
            unchoked: false,
        }
    }

    /// The first block of `wanted`, or of the first piece that the seeder offers when it does not offer that.
    pub fn first_block(&mut self, wanted: u32) {
        let mut asked = false;
        loop {
            let mut length = [0; 4];
            self.stream.read_exact(&mut length).unwrap();
            let mut message = vec![0; u32::from_be_bytes(length) as usize];
            self.stream.read_exact(&mut message).unwrap();
            match &message[..] {
                [UNCHOKE] => self.unchoked = true,
                [HAVE, piece @ ..] => {
                    let piece = u32::from_be_bytes(piece.try_into().unwrap());
                    self.have[piece as usize] = true;
                }
                [BITFIELD, bits @ ..] => {
                    for (piece, have) in self.have.iter_mut().enumerate() {
                        *have = bits[piece / 8] & (0x80 >> (piece % 8)) != 0;
                    }
                }
                [PIECE, ..] => return,
                _ => {}
            }
            let offered = self.have.iter().position(|have| *have);
            if let Some(offered) = offered
                && self.unchoked
                && !asked
            {
                let piece = if self.have[wanted as usize] {
                    wanted
                } else {
                    offered as u32
                };
                let mut request = vec![0, 0, 0, 13, REQUEST];
                [piece, 0, BLOCK]
                    .iter()
                    .for_each(|part| request.extend(part.to_be_bytes()));
                self.stream.write_all(&request).unwrap();
                asked = true;
            }
        }
    }
}
