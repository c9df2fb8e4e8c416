//! Writes messages.

use std::net::{IpAddr, SocketAddr};

use crate::torrent::bencode::Writer;

use super::{LayerRows, Message};

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

/// BEP 23 and its IPv6 counterpart: the address, then the port.
fn compact(address: SocketAddr) -> Vec<u8> {
    let mut bytes = match address.ip().to_canonical() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    bytes.extend(address.port().to_be_bytes());
    bytes
}
