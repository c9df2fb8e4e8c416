//! A peer that claims to have everything, describes it truly, and sends garbage for every block.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::ExitCode;
use std::thread;

use data_encoding::HEXLOWER;

use crate::random::Random;
use crate::started::READY;

/// The argument that makes this program such a peer.
pub const BAD_PEER: &str = "bad-peer";

const HANDSHAKE: usize = 68;
/// The extension protocol (BEP 10) and the fast extension (BEP 6).
const RESERVED: [u8; 8] = [0, 0, 0, 0, 0, 0x10, 0, 4];
const UNCHOKE: u8 = 1;
const REQUEST: u8 = 6;
const PIECE: u8 = 7;
const HAVE_ALL: u8 = 14;
const EXTENDED: u8 = 20;
const METADATA_PIECE: usize = 16 * 1024;
/// No message that a downloader sends is larger.
const LARGEST: usize = 64 * 1024;

/// Listens for ever; `infos` has the info dicts, named after their hashes.
pub fn run(listen: &str, infos: &Path) -> ExitCode {
    let listener = TcpListener::bind(listen).unwrap();
    println!("{READY}");
    for stream in listener.incoming().flatten() {
        let infos = infos.to_owned();
        // Ends when the other side has had enough.
        thread::spawn(move || serve(stream, &infos));
    }
    ExitCode::SUCCESS
}

fn serve(mut stream: TcpStream, infos: &Path) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut hello = [0; HANDSHAKE];
    stream.read_exact(&mut hello)?;
    let info = fs::read(infos.join(HEXLOWER.encode(&hello[28..48])))?;
    hello[20..28].copy_from_slice(&RESERVED);
    hello[48..].copy_from_slice(b"-BAD000-000000000000");
    let mut out = hello.to_vec();
    put(&mut out, HAVE_ALL, &[]);
    put(&mut out, UNCHOKE, &[]);
    let size = info.len();
    let words = format!("\0d1:md11:ut_metadatai1ee13:metadata_sizei{size}ee");
    put(&mut out, EXTENDED, words.as_bytes());
    let (mut random, mut their_id) = (Random(1), 0);
    loop {
        stream.write_all(&out)?;
        out.clear();
        match &next(&mut stream)?[..] {
            [REQUEST, place @ ..] if place.len() == 12 => {
                let length = u16::from_be_bytes([place[10], place[11]]);
                let mut block = vec![0; 8 + usize::from(length)];
                random.fill(&mut block);
                block[..8].copy_from_slice(&place[..8]);
                put(&mut out, PIECE, &block);
            }
            [EXTENDED, 0, words @ ..] => {
                their_id = number(words, "11:ut_metadatai").unwrap_or(0) as u8;
            }
            [EXTENDED, _, words @ ..] => {
                let piece = number(words, "5:piecei").unwrap_or(0);
                let data = info.chunks(METADATA_PIECE).nth(piece).unwrap_or(&[]);
                let head = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{size}ee");
                put(
                    &mut out,
                    EXTENDED,
                    &[&[their_id], head.as_bytes(), data].concat(),
                );
            }
            _ => {}
        }
    }
}

fn put(out: &mut Vec<u8>, id: u8, payload: &[u8]) {
    out.extend((1 + payload.len() as u32).to_be_bytes());
    out.push(id);
    out.extend(payload);
}

fn next(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > LARGEST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    stream.read_exact(&mut message)?;
    Ok(message)
}

/// The bencoded integer behind `key`.
fn number(words: &[u8], key: &str) -> Option<usize> {
    let words = String::from_utf8_lossy(words);
    let (_, rest) = words.split_once(key)?;
    rest.split_once('e')?.0.parse().ok()
}
