//! The messages of a topic connection: BEP 10 extension `nw1_gossip`, each one bencode dictionary with one key.
//!
//! ```text
//! d5:hellod6:layersl32:...e10:neighboursi3e4:porti6881e6:publici0e7:seedboxi0eee
//!     who is there; again whenever the layers that it knows, and thus wants to hear of, have changed
//! d7:pointer120:...e              a signed pointer: the newest, or the one to the release that is here
//!     (BEP 44, as `manifest::Pointer` writes it)
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
//! (without the blanks). The hello comes first: before it only pointers are heard. A message names a row once, a
//! question at most 8192. Another version would be another extension beside this one. Layers are named by their SHA-256,
//! addresses are BEP 23's. Messages with another key are ignored, anything else that is not as above ends the
//! connection.

mod decode;
mod encode;

use std::net::SocketAddr;

use thiserror::Error;

use crate::torrent::bencode::BencodeError;

/// Layers of one hello: the kept releases of a channel share most of theirs.
pub const MAX_LAYERS: usize = 256;
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

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    #[error(transparent)]
    Bencode(#[from] BencodeError),
    #[error("an address of {0} bytes")]
    Address(usize),
}

/// A layer by the SHA-256 of its bytes.
pub type LayerId = [u8; 32];

/// Rows of one layer, in the form that `RowSet::add` reads: only who has the layer knows how many there are.
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
