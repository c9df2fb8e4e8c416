//! Peers in compact form (BEP 23, BEP 7): address and port in 6 or 18 bytes each, as trackers and PEX send them.

use std::net::SocketAddr;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct CompactPeers {
    pub v4: Vec<u8>,
    pub v6: Vec<u8>,
}

impl CompactPeers {
    pub fn of(peers: &[SocketAddr]) -> Self {
        let mut compact = Self::default();
        for peer in peers {
            match peer {
                SocketAddr::V4(v4) => {
                    compact.v4.extend(v4.ip().octets());
                    compact.v4.extend(v4.port().to_be_bytes());
                }
                SocketAddr::V6(v6) => {
                    compact.v6.extend(v6.ip().octets());
                    compact.v6.extend(v6.port().to_be_bytes());
                }
            }
        }
        compact
    }

    /// The IPv4 addresses in these bytes; a rest at the end is none.
    pub fn read_v4(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
        let peers = bytes.as_chunks::<6>().0.iter();
        peers.map(|[a, b, c, d, port @ ..]| ([*a, *b, *c, *d], u16::from_be_bytes(*port)).into())
    }

    /// The same of IPv6.
    pub fn read_v6(bytes: &[u8]) -> impl Iterator<Item = SocketAddr> {
        let peers = bytes.as_chunks::<18>().0.iter();
        peers.filter_map(|peer| {
            let (address, port) = peer.split_first_chunk::<16>()?;
            Some((*address, u16::from_be_bytes(port.try_into().ok()?)).into())
        })
    }

    pub fn v4_count(&self) -> usize {
        self.v4.len() / 6
    }

    pub fn v6_count(&self) -> usize {
        self.v6.len() / 18
    }
}
