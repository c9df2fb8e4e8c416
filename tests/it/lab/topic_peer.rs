//! A peer on a channel's topic that says what a test wants it to say: handshakes, and gossip messages as bytes.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use narswarm::{
    manifest::ChannelName, nix::PublicKey, torrent::InfoHash, torrent::bencode::Writer,
};

use super::{Publication, RawPeer};

/// No answer of a node on this machine takes so long.
const PATIENCE: Duration = Duration::from_secs(20);
const EXTENDED: u8 = 20;
const HAVE_NONE: u8 = 15;
/// The id under which we want gossip.
const OUR_ID: u8 = 9;

pub struct TopicPeer {
    stream: TcpStream,
    /// The id under which the node wants gossip.
    extension: u8,
}

/// Where the agents of a publication's channel meet.
pub fn topic(publication: &Publication) -> InfoHash {
    let key: PublicKey = publication.keys.channel.parse().unwrap();
    let channel: ChannelName = publication.channel.parse().unwrap();
    channel.topic(&key.bytes())
}

impl TopicPeer {
    /// Connects to a node, as one of several; both extension handshakes are through when this returns.
    #[track_caller]
    pub fn connect(node: SocketAddr, topic: InfoHash, number: u8) -> Self {
        Self::greet(TcpStream::connect(node).unwrap(), topic, number)
    }

    /// The same from another address of this machine.
    #[track_caller]
    pub fn connect_from(from: IpAddr, node: SocketAddr, topic: InfoHash, number: u8) -> Self {
        let RawPeer(stream) = RawPeer::connect(from, node).unwrap();
        Self::greet(stream, topic, number)
    }

    #[track_caller]
    fn greet(stream: TcpStream, topic: InfoHash, number: u8) -> Self {
        let mut stream = shake_hands(stream, topic, number).unwrap();
        stream
            .write_all(&frame(&[&[EXTENDED, 0], extensions().as_slice()].concat()))
            .unwrap();
        let mut peer = Self {
            stream,
            extension: 0,
        };
        // What a stock client learns: a peer without pieces.
        assert_eq!(peer.read_frame().unwrap(), [HAVE_NONE]);
        let hello = peer.read_frame().unwrap();
        assert_eq!(hello[..2], [EXTENDED, 0]);
        let name = b"10:nw1_gossipi";
        let at = hello.windows(name.len()).position(|w| w == name).unwrap() + name.len();
        let digits = hello[at..].iter().take_while(|b| b.is_ascii_digit());
        peer.extension = digits.fold(0, |n, b| n * 10 + (b - b'0'));
        peer
    }

    /// Sends one message, already encoded. False when the node has hung up.
    pub fn say(&mut self, message: &[u8]) -> bool {
        let body = [&[EXTENDED, self.extension], message].concat();
        self.stream.write_all(&frame(&body)).is_ok()
    }

    /// Introduces itself as one that serves on `port`, and knows these layers.
    pub fn say_hello(&mut self, port: u16, layers: &[[u8; 32]]) {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes("hello");
        out.open_dict();
        out.bytes("layers");
        out.open_list();
        layers.iter().for_each(|layer| out.bytes(layer));
        out.close();
        out.unsigned_at("neighbours", 5);
        out.unsigned_at("port", port.into());
        out.unsigned_at("public", 1);
        out.unsigned_at("seedbox", 0);
        out.close();
        out.close();
        assert!(self.say(&out.finish()));
    }

    /// Brings a signed pointer.
    pub fn say_pointer(&mut self, pointer: &[u8]) {
        self.say(&pointer_message(pointer));
    }

    /// Says that it has rows 0 to `rows` of a layer, all of them.
    pub fn say_have_all(&mut self, layer: &[u8; 32], rows: u8) {
        assert!(rows < 128, "one byte holds no more");
        self.say_have(layer, &[0, 0, rows]);
    }

    pub fn say_have_none(&mut self, layer: &[u8; 32]) {
        self.say_have(layer, &[0]);
    }

    fn say_have(&mut self, layer: &[u8; 32], rows: &[u8]) {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes("have");
        out.open_list();
        out.open_dict();
        out.unsigned_at("fresh", 1);
        out.bytes_at("layer", layer);
        out.bytes_at("rows", rows);
        out.close();
        out.close();
        out.close();
        assert!(self.say(&out.finish()));
    }

    /// Asks for the info dict of one row.
    pub fn say_want_info(&mut self, layer: &[u8; 32], row: u8) {
        let mut out = Writer::new();
        out.open_dict();
        out.bytes("want info");
        out.open_list();
        out.open_dict();
        out.bytes_at("layer", layer);
        out.bytes_at("rows", [0, row, 1]);
        out.close();
        out.close();
        out.close();
        assert!(self.say(&out.finish()));
    }

    /// The next gossip message whose one key is this; `None` when the node hangs up.
    #[track_caller]
    pub fn hear(&mut self, key: &str) -> Option<Vec<u8>> {
        let start = Instant::now();
        let wanted = format!("d{}:{key}", key.len());
        loop {
            let frame = self.read_frame()?;
            if let Some(message) = frame.strip_prefix(&[EXTENDED, OUR_ID])
                && message.starts_with(wanted.as_bytes())
            {
                return Some(message.to_vec());
            }
            assert!(start.elapsed() < PATIENCE, "no {key} came");
        }
    }

    /// Whether the node hangs up within the patience of a test.
    pub fn is_left_alone(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.read_frame().is_none() {
                return true;
            }
        }
        false
    }

    fn read_frame(&mut self) -> Option<Vec<u8>> {
        let mut length = [0; 4];
        let mut read = |buffer: &mut [u8]| match self.stream.read_exact(buffer) {
            Ok(()) => Some(()),
            Err(error) => {
                assert_ne!(error.kind(), ErrorKind::WouldBlock, "the node says nothing");
                None
            }
        };
        read(&mut length)?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        read(&mut frame)?;
        Some(frame)
    }
}

/// The message that brings a pointer.
pub fn pointer_message(pointer: &[u8]) -> Vec<u8> {
    let start = format!("d7:pointer{}:", pointer.len());
    [start.as_bytes(), pointer, b"e"].concat()
}

/// Answers on `listener` for `topic` as the `TopicPeer` of this number, and hangs up on everything else, as a liar does.
/// Runs until the test ends.
pub fn answer_for_the_topic_only(listener: TcpListener, topic: InfoHash, number: u8) {
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = stream;
            let mut hello = [0; 68];
            if stream.read_exact(&mut hello).is_ok() && hello[28..48] == *topic.as_bytes() {
                let _ = stream.write_all(&handshake(topic, number));
            }
        }
    });
}

/// Sends the handshake and nothing more; `None` when the node hangs up.
pub fn connect_silently(node: SocketAddr, topic: InfoHash, number: u8) -> Option<TcpStream> {
    shake_hands(TcpStream::connect(node).unwrap(), topic, number)
}

fn shake_hands(mut stream: TcpStream, topic: InfoHash, number: u8) -> Option<TcpStream> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(&handshake(topic, number)).ok()?;
    let mut answer = [0; 68];
    stream.read_exact(&mut answer).ok()?;
    assert_eq!(answer[28..48], *topic.as_bytes());
    Some(stream)
}

fn handshake(topic: InfoHash, number: u8) -> Vec<u8> {
    let reserved = [0, 0, 0, 0, 0, 0x10, 0, 0x04];
    let mut id = *b"-XX0000-a-test-peer-";
    id[19] = number;
    let parts: [&[u8]; 4] = [b"\x13BitTorrent protocol", &reserved, topic.as_bytes(), &id];
    parts.concat()
}

fn extensions() -> Vec<u8> {
    format!("d1:md10:nw1_gossipi{OUR_ID}eee").into_bytes()
}

fn frame(body: &[u8]) -> Vec<u8> {
    [&(body.len() as u32).to_be_bytes(), body].concat()
}
