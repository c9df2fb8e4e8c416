//! Reads messages: whatever a neighbour sends is bounded before anything is allocated for it.

use std::net::{IpAddr, SocketAddr};

use crate::manifest::MAX_POINTER_BYTES;
use crate::torrent::bencode::{BencodeError, Reader};

use super::{
    Have, Hello, Holder, LayerRows, MAX_DICT_BYTES, MAX_DICTS, MAX_ENTRIES, MAX_HOLDERS,
    MAX_LAYERS, MAX_PEERS, MAX_ROWS_BYTES, Message, MessageError,
};

/// More neighbours than any limit allows.
const MANY: u64 = 100_000;

impl Message {
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
            b"pointer" => Self::Pointer(input.bytes(MAX_POINTER_BYTES)?.to_vec()),
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
        case(&Message::Pointer(vec![0; MAX_POINTER_BYTES + 1]).encode());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), sample in 0usize..11,
                                       at in any::<prop::sample::Index>(), length in 0usize..6, other in proptest::collection::vec(any::<u8>(), 0..6)) {
            let _ = Message::decode(&bytes);
            let mut encoded = samples()[sample].encode();
            let at = at.index(encoded.len());
            let end = (at + length).min(encoded.len());
            encoded.splice(at..end, other);
            if let Ok(Some(message)) = Message::decode(&encoded) {
                prop_assert_eq!(Message::decode(&message.encode()), Ok(Some(message)));
            }
        }
    }
}
