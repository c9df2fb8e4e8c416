//! The messages of a topic connection: BEP 10 extension `nw1_gossip`, each one bencode dictionary with one key.
//!
//! ```text
//! d5:hellod6:layersl32:...e10:neighboursi3e4:porti6881e6:publici0e7:seedboxi0eee
//!     who is there; again whenever the layers that it knows, and thus wants to hear of, have changed
//! d7:pointer120:...e              the newest signed pointer (BEP 44, as `manifest::Pointer` writes it)
//! d4:havel d5:freshi1e5:layer32:...4:rows9:...e ee
//!     its have-map, layer by layer: a fresh layer starts empty, then the rows are flipped (see row_set.rs)
//! d7:gettingl d5:layer32:...4:rows9:...e ee       the rows that it downloads right now
//! d9:want infol d5:layer32:...4:rows9:...e ee     asks for the info dicts of these rows
//! d4:infol200:...ee                               some of them
//! d7:who hasd2:idi7e4:rowsl d5:layer32:...4:rows9:...e eee
//! d3:hasd7:holdersl d7:address6:...4:openi1e4:rowsl d5:layer32:...4:rows9:...e ee e2:idi7eee
//!     the neighbours of the asked one that have some of these rows; always answered, if only with an empty list
//! d9:dial backd5:layer32:...3:rowi5eee            asks to be connected to, for this row
//! d4:seend4:openi0e3:you6:...ee   where the other side is seen, and whether its port could be reached from here
//! d5:peersl6:...18:...ee          addresses that were reached lately
//! ```
//! (without the blanks). Another version would be another extension beside this one. Layers are named by their SHA-256,
//! addresses are BEP 23's. Messages with another key are ignored, anything else that is not as above ends the
//! connection.

use std::net::{IpAddr, SocketAddr};

use thiserror::Error;

use crate::torrent::bencode::{BencodeError, Reader, Writer};

/// The name in the extension handshake.
pub const EXTENSION: &str = "nw1_gossip";
/// Layers of one hello: the kept releases of a channel share most of theirs.
pub const MAX_LAYERS: usize = 256;
/// A signed pointer: BEP 44 allows its value 1000 bytes.
pub const MAX_POINTER: usize = 1200;
/// Row sets of one message; a part of one has at most `MAX_ROWS_BYTES`.
const MAX_ENTRIES: usize = 64;
const MAX_ROWS_BYTES: usize = 17 * 1024;
/// Addresses of one message.
pub const MAX_PEERS: usize = 50;
/// Holders of one answer.
pub const MAX_HOLDERS: usize = 32;
/// Info dicts of one message, and their bytes: what does not fit into a frame is fetched from a seeder.
pub const MAX_DICTS: usize = 64;
pub const MAX_DICT_BYTES: usize = 32 * 1024;
/// What one message is filled up to; a frame may have 64 KiB.
const MAX_BYTES: usize = 48 * 1024;
/// Keys, a layer's name and the lengths around an item.
const ITEM_OVERHEAD: usize = 80;
/// More neighbours than any limit allows.
const MANY: u64 = 100_000;

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    #[error("an address of {0} bytes")]
    Address(usize),
}

/// A layer by the SHA-256 of its bytes.
pub type LayerId = [u8; 32];

/// Rows of one layer, in the form that `RowSet::decode` reads: only who has the layer knows how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerRows {
    pub layer: LayerId,
    pub rows: Vec<u8>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    pub layers: Vec<LayerId>,
    pub neighbours: u64,
    /// Where it serves; 0 if it does not serve the one it speaks to.
    pub port: u16,
    /// Whether others than its own LAN may be told of it.
    pub public: bool,
    pub seedbox: bool,
}

/// A change of the have-map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Have {
    pub fresh: bool,
    pub rows: LayerRows,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub address: SocketAddr,
    /// Whether its port was reached by whoever names it.
    pub open: bool,
    pub rows: Vec<LayerRows>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    Hello(Hello),
    Pointer(Vec<u8>),
    Have(Vec<Have>),
    Getting(Vec<LayerRows>),
    WantInfo(Vec<LayerRows>),
    Info(Vec<Vec<u8>>),
    WhoHas { id: u64, rows: Vec<LayerRows> },
    Has { id: u64, holders: Vec<Holder> },
    DialBack { layer: LayerId, row: u32 },
    Seen { you: SocketAddr, open: bool },
    Peers(Vec<SocketAddr>),
}

impl Message {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        out.open_dict();
        match self {
            Self::Hello(hello) => {
                out.bytes("hello");
                out.open_dict();
                out.bytes("layers");
                list(&mut out, &hello.layers, |out, layer| out.bytes(layer));
                out.unsigned_at("neighbours", hello.neighbours);
                out.unsigned_at("port", hello.port.into());
                out.unsigned_at("public", hello.public.into());
                out.unsigned_at("seedbox", hello.seedbox.into());
                out.close();
            }
            Self::Pointer(pointer) => out.bytes_at("pointer", pointer),
            Self::Have(haves) => {
                out.bytes("have");
                list(&mut out, haves, |out, have| {
                    out.open_dict();
                    out.unsigned_at("fresh", have.fresh.into());
                    put_layer_rows(out, &have.rows);
                    out.close();
                });
            }
            Self::Getting(rows) => {
                out.bytes("getting");
                put_rows(&mut out, rows);
            }
            Self::WantInfo(rows) => {
                out.bytes("want info");
                put_rows(&mut out, rows);
            }
            Self::Info(dicts) => {
                out.bytes("info");
                list(&mut out, dicts, |out, dict| out.bytes(dict));
            }
            Self::WhoHas { id, rows } => {
                out.bytes("who has");
                out.open_dict();
                out.unsigned_at("id", *id);
                out.bytes("rows");
                put_rows(&mut out, rows);
                out.close();
            }
            Self::Has { id, holders } => {
                out.bytes("has");
                out.open_dict();
                out.bytes("holders");
                list(&mut out, holders, |out, holder| {
                    out.open_dict();
                    out.bytes_at("address", compact(holder.address));
                    out.unsigned_at("open", holder.open.into());
                    out.bytes("rows");
                    put_rows(out, &holder.rows);
                    out.close();
                });
                out.unsigned_at("id", *id);
                out.close();
            }
            Self::DialBack { layer, row } => {
                out.bytes("dial back");
                out.open_dict();
                out.bytes_at("layer", layer);
                out.unsigned_at("row", (*row).into());
                out.close();
            }
            Self::Seen { you, open } => {
                out.bytes("seen");
                out.open_dict();
                out.unsigned_at("open", (*open).into());
                out.bytes_at("you", compact(*you));
                out.close();
            }
            Self::Peers(peers) => {
                out.bytes("peers");
                list(&mut out, peers, |out, peer| out.bytes(compact(*peer)));
            }
        }
        out.close();
        out.finish()
    }

    /// `None` for a message that only a later program knows.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, MessageError> {
        let mut input = Reader::new(bytes);
        let input = &mut input;
        input.open_dict()?;
        let message = match input.next_key(None)? {
            b"hello" => {
                input.open_dict()?;
                input.key("layers")?;
                let layers = input.list(MAX_LAYERS, |input| input.array())?;
                input.key("neighbours")?;
                let neighbours = input.unsigned(MANY)?;
                input.key("port")?;
                let port = input.unsigned(u16::MAX.into())? as u16;
                input.key("public")?;
                let public = flag(input)?;
                input.key("seedbox")?;
                let seedbox = flag(input)?;
                input.close()?;
                Self::Hello(Hello {
                    layers,
                    neighbours,
                    port,
                    public,
                    seedbox,
                })
            }
            b"pointer" => Self::Pointer(input.bytes(MAX_POINTER)?.to_vec()),
            b"have" => Self::Have(input.list(MAX_ENTRIES, |input| {
                input.open_dict()?;
                input.key("fresh")?;
                let fresh = flag(input)?;
                let rows = layer_rows(input)?;
                input.close()?;
                Ok::<_, MessageError>(Have { fresh, rows })
            })?),
            b"getting" => Self::Getting(rows(input)?),
            b"want info" => Self::WantInfo(rows(input)?),
            b"info" => Self::Info(input.list(MAX_DICTS, |input| {
                input.bytes(MAX_DICT_BYTES).map(<[u8]>::to_vec)
            })?),
            b"who has" => {
                input.open_dict()?;
                input.key("id")?;
                let id = input.unsigned(u64::MAX)?;
                input.key("rows")?;
                let rows = rows(input)?;
                input.close()?;
                Self::WhoHas { id, rows }
            }
            b"has" => {
                input.open_dict()?;
                input.key("holders")?;
                let holders = input.list(MAX_HOLDERS, holder)?;
                input.key("id")?;
                let id = input.unsigned(u64::MAX)?;
                input.close()?;
                Self::Has { id, holders }
            }
            b"dial back" => {
                input.open_dict()?;
                input.key("layer")?;
                let layer = input.array()?;
                input.key("row")?;
                let row = input.unsigned(u32::MAX.into())? as u32;
                input.close()?;
                Self::DialBack { layer, row }
            }
            b"seen" => {
                input.open_dict()?;
                input.key("open")?;
                let open = flag(input)?;
                input.key("you")?;
                let you = address(input)?;
                input.close()?;
                Self::Seen { you, open }
            }
            b"peers" => Self::Peers(input.list(MAX_PEERS, address)?),
            _ => return Ok(None),
        };
        input.close()?;
        match bytes.len() - input.position() {
            0 => Ok(Some(message)),
            len => Err(BencodeError::Trailing { len }.into()),
        }
    }
}

/// As few messages as these items fit into.
pub fn packed<T>(
    items: Vec<T>,
    bytes: impl Fn(&T) -> usize,
    message: impl Fn(Vec<T>) -> Message,
) -> Vec<Message> {
    let (mut packed, mut batch, mut size) = (Vec::new(), Vec::new(), 0);
    for item in items {
        let more = bytes(&item) + ITEM_OVERHEAD;
        if !batch.is_empty() && (size + more > MAX_BYTES || batch.len() == MAX_ENTRIES) {
            packed.push(message(std::mem::take(&mut batch)));
            size = 0;
        }
        size += more;
        batch.push(item);
    }
    if !batch.is_empty() {
        packed.push(message(batch));
    }
    packed
}

fn list<T>(out: &mut Writer, items: &[T], put: impl Fn(&mut Writer, &T)) {
    out.open_list();
    items.iter().for_each(|item| put(out, item));
    out.close();
}

fn put_rows(out: &mut Writer, rows: &[LayerRows]) {
    list(out, rows, |out, rows| {
        out.open_dict();
        put_layer_rows(out, rows);
        out.close();
    });
}

fn put_layer_rows(out: &mut Writer, rows: &LayerRows) {
    out.bytes_at("layer", rows.layer);
    out.bytes_at("rows", &rows.rows);
}

fn rows(input: &mut Reader<'_>) -> Result<Vec<LayerRows>, MessageError> {
    input.list(MAX_ENTRIES, |input| {
        input.open_dict()?;
        let rows = layer_rows(input)?;
        input.close()?;
        Ok(rows)
    })
}

fn layer_rows(input: &mut Reader<'_>) -> Result<LayerRows, MessageError> {
    input.key("layer")?;
    let layer = input.array()?;
    input.key("rows")?;
    let rows = input.bytes(MAX_ROWS_BYTES)?.to_vec();
    Ok(LayerRows { layer, rows })
}

fn holder(input: &mut Reader<'_>) -> Result<Holder, MessageError> {
    input.open_dict()?;
    input.key("address")?;
    let address = address(input)?;
    input.key("open")?;
    let open = flag(input)?;
    input.key("rows")?;
    let rows = rows(input)?;
    input.close()?;
    Ok(Holder {
        address,
        open,
        rows,
    })
}

fn flag(input: &mut Reader<'_>) -> Result<bool, BencodeError> {
    input.unsigned(1).map(|flag| flag == 1)
}

/// BEP 23 and its IPv6 counterpart: the address, then the port.
fn compact(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}

fn address(input: &mut Reader<'_>) -> Result<SocketAddr, MessageError> {
    let bytes = input.bytes(18)?;
    let error = || MessageError::Address(bytes.len());
    let (ip, port) = bytes.split_last_chunk::<2>().ok_or_else(error)?;
    let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => IpAddr::from(v4),
        (_, Ok(v6)) => IpAddr::from(v6),
        _ => return Err(error()),
    };
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn samples() -> Vec<Message> {
        let rows = LayerRows {
            layer: [7; 32],
            rows: vec![0, 3, 2],
        };
        let address: SocketAddr = "192.0.2.1:6881".parse().unwrap();
        vec![
            Message::Hello(Hello {
                layers: vec![[7; 32], [8; 32]],
                neighbours: 3,
                port: 6881,
                public: true,
                seedbox: false,
            }),
            Message::Pointer(b"signed".to_vec()),
            Message::Have(vec![Have {
                fresh: true,
                rows: rows.clone(),
            }]),
            Message::Getting(vec![rows.clone()]),
            Message::WantInfo(vec![rows.clone()]),
            Message::Info(vec![b"d4:infoe".to_vec(), vec![]]),
            Message::WhoHas {
                id: 9,
                rows: vec![rows.clone()],
            },
            Message::Has {
                id: 9,
                holders: vec![Holder {
                    address,
                    open: false,
                    rows: vec![rows],
                }],
            },
            Message::DialBack {
                layer: [7; 32],
                row: 5,
            },
            Message::Seen {
                you: "[2001:db8::1]:1".parse().unwrap(),
                open: true,
            },
            Message::Peers(vec![address, "[2001:db8::1]:2".parse().unwrap()]),
        ]
    }

    #[test]
    fn messages_round_trip() {
        for message in samples() {
            let encoded = message.encode();
            assert_eq!(Message::decode(&encoded), Ok(Some(message)));
            for cut in 0..encoded.len() {
                assert!(Message::decode(&encoded[..cut]).is_err());
            }
            assert!(Message::decode(&[&encoded[..], b"e"].concat()).is_err());
        }
    }

    #[test]
    fn later_messages_are_ignored_and_bad_ones_refused() {
        assert_eq!(Message::decode(b"d6:futurei1ee"), Ok(None));
        let case = |bytes: &[u8]| assert!(Message::decode(bytes).is_err(), "{bytes:?}");
        case(b"i1e");
        case(b"d5:peersl5:12345ee");
        case(b"d4:seend4:openi2e3:you6:abcdefee");
        let many = vec!["192.0.2.1:1".parse().unwrap(); MAX_PEERS + 1];
        case(&Message::Peers(many).encode());
        case(&Message::Pointer(vec![0; MAX_POINTER + 1]).encode());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), sample in 0usize..11, at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = Message::decode(&bytes);
            let mut encoded = samples()[sample].encode();
            let at = at.index(encoded.len());
            encoded[at] = byte;
            if let Ok(Some(message)) = Message::decode(&encoded) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(Some(message)));
            }
        }
    }
}
