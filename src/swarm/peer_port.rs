//! The one public port, wherever it can be had.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the kernel has accepted and we have not, as tokio has it.
const BACKLOG: i32 = 1024;

pub struct PeerPort {
    pub listener: TcpListener,
    pub address: SocketAddr,
    /// No interface had this address.
    pub early: bool,
}

impl PeerPort {
    /// `[::]` means everywhere: on a machine without IPv6 that is `0.0.0.0`. An address that no interface has may come later.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let everywhere = address.ip() == Ipv6Addr::UNSPECIFIED;
        let mut early = false;
        let listener = match TcpListener::bind(address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(error),
            Err(_) if everywhere => {
                TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await?
            }
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                tracing::warn!(%address, "no interface has this address yet");
                early = true;
                bind_early(address)?
            }
            bound => bound?,
        };
        Ok(Self {
            address: listener.local_addr()?,
            listener,
            early,
        })
    }
}

/// Listens where an interface will be (`IP_FREEBIND`).
fn bind_early(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    match address {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address for documentation (RFC 5737, RFC 3849) is nobody's.
    #[tokio::test]
    async fn an_address_may_come_later() {
        for (address, early) in [
            ("192.0.2.1:0", true),
            ("[2001:db8::1]:0", true),
            ("127.0.0.1:0", false),
        ] {
            let address: SocketAddr = address.parse().unwrap();
            let port = PeerPort::bind(address).await.unwrap();
            assert_eq!((port.address.ip(), port.early), (address.ip(), early));
        }
    }
}
