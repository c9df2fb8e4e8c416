//! librqbit's way out to its peers: a SOCKS5 proxy on loopback, for it alone. What comes back is sifted.
//!
//! Its own sockets have Nagle's algorithm on: the request that follows "interested" waits for an acknowledgement, a whole
//! round trip for each new peer, and as long again where the peer delays it. From here on they do not, and on loopback a
//! round trip is nothing. The password keeps other programs of this machine out.
//!
//! ```text
//! -> 5 1 2            <- 5 2                 version, one method: name and password (RFC 1928)
//! -> 1 4 user 32 ...  <- 1 0                 RFC 1929
//! -> 5 1 0 1 IP PORT  <- 5 0 0 1 0 0 0 0 0 0 connect (4 instead of 1 for IPv6); then bytes both ways
//! ```

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::local_tracker::LocalTracker;
use crate::swarm::protocol::incoming::quick_ack;
use crate::swarm::protocol::sift;

const VERSION: u8 = 5;
const METHOD_PASSWORD: u8 = 2;
const AUTH_VERSION: u8 = 1;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const IPV6: u8 = 4;
const SUCCEEDED: u8 = 0;
const REFUSED: u8 = 5;
const USER: &str = "engine";
/// A program on this machine answers at once.
const GREETING_TIMEOUT: Duration = Duration::from_secs(5);
/// librqbit gives up a little later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Four blocks.
const BUFFER: usize = 64 * 1024;
/// After a failed accept (out of descriptors, mostly) there is nothing better to do than to wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

#[derive(Debug, Error)]
enum WayOutError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("not what librqbit says")]
    Protocol,
    #[error("another program")]
    Stranger,
    #[error("no answer in time")]
    Timeout,
}

pub struct WayOut {
    address: SocketAddr,
    password: String,
}

impl WayOut {
    /// Listens until `stop`. The tracker hears of whom the peers tell.
    pub async fn start(
        tracker: Arc<LocalTracker>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut secret = [0; 16];
        getrandom::fill(&mut secret).map_err(io::Error::other)?;
        let password = HEXLOWER.encode(&secret);
        let way_out = Self {
            address,
            password: password.clone(),
        };
        let (connections, stop) = (tasks.clone(), stop.clone());
        tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((stream, _)) = accepted else {
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                };
                let (password, tracker) = (password.clone(), tracker.clone());
                let stop = stop.clone();
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        result = serve(stream, &password, &tracker) => {
                            if let Err(error) = result {
                                tracing::trace!(%error, "a way out ended");
                            }
                        }
                    }
                });
            }
        });
        Ok(way_out)
    }

    /// For librqbit's options.
    pub fn url(&self) -> String {
        format!("socks5://{USER}:{}@{}", self.password, self.address)
    }
}

async fn serve(
    mut engine: TcpStream,
    password: &str,
    tracker: &LocalTracker,
) -> Result<(), WayOutError> {
    engine.set_nodelay(true)?;
    let greeting = timeout(GREETING_TIMEOUT, greet(&mut engine, password));
    let to = greeting.await.map_err(|_| WayOutError::Timeout)??;
    let connected = timeout(CONNECT_TIMEOUT, TcpStream::connect(to)).await;
    let code = match &connected {
        Ok(Ok(_)) => SUCCEEDED,
        _ => REFUSED,
    };
    let answer = [VERSION, code, 0, IPV4, 0, 0, 0, 0, 0, 0];
    engine.write_all(&answer).await?;
    let peer = connected.map_err(|_| WayOutError::Timeout)??;
    peer.set_nodelay(true)?;
    let (from_engine, to_engine) = engine.into_split();
    let (from_peer, to_peer) = peer.into_split();
    let heard = |info_hash: &_, peers| drop(tracker.tell(info_hash, to.ip(), peers));
    // A peer connection is of no use with one direction closed.
    tokio::select! {
        ended = pass(from_engine, to_peer) => ended?,
        ended = sift(&[], from_peer, to_engine, heard) => drop(ended?),
    }
    Ok(())
}

/// Where the engine wants to go.
async fn greet(engine: &mut TcpStream, password: &str) -> Result<SocketAddr, WayOutError> {
    let [version, count] = read(engine).await?;
    let mut methods = vec![0; count.into()];
    engine.read_exact(&mut methods).await?;
    if version != VERSION || !methods.contains(&METHOD_PASSWORD) {
        return Err(WayOutError::Protocol);
    }
    engine.write_all(&[VERSION, METHOD_PASSWORD]).await?;
    let [version] = read(engine).await?;
    let (user, given) = (text(engine).await?, text(engine).await?);
    if version != AUTH_VERSION {
        return Err(WayOutError::Protocol);
    }
    if user != USER.as_bytes() || given != password.as_bytes() {
        return Err(WayOutError::Stranger);
    }
    engine.write_all(&[AUTH_VERSION, SUCCEEDED]).await?;
    let [version, command, _, kind] = read(engine).await?;
    if (version, command) != (VERSION, CONNECT) {
        return Err(WayOutError::Protocol);
    }
    let address: IpAddr = match kind {
        IPV4 => Ipv4Addr::from(read::<4>(engine).await?).into(),
        IPV6 => Ipv6Addr::from(read::<16>(engine).await?).into(),
        _ => return Err(WayOutError::Protocol),
    };
    Ok((address, u16::from_be_bytes(read(engine).await?)).into())
}

async fn read<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// A length byte, and so many bytes.
async fn text(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let [length] = read(stream).await?;
    let mut bytes = vec![0; length.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        // Whoever has Nagle on waits for the acknowledgement: it is not to be delayed.
        quick_ack(from.as_ref());
        match from.read(&mut buffer).await? {
            0 => return Ok(()),
            count => to.write_all(&buffer[..count]).await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::sources::Sources;
    use super::*;
    use crate::swarm::gossip;
    use crate::swarm::share::{Share, SharePolicy};

    async fn connect(way_out: &WayOut, password: &str, to: SocketAddr) -> io::Result<TcpStream> {
        let mut stream = TcpStream::connect(way_out.address).await?;
        stream.write_all(&[5, 1, 2]).await?;
        read::<2>(&mut stream).await?;
        let length = password.len() as u8;
        let user = [&[1, 6], USER.as_bytes(), &[length], password.as_bytes()].concat();
        stream.write_all(&user).await?;
        read::<2>(&mut stream).await?;
        let IpAddr::V4(ip) = to.ip() else {
            unreachable!()
        };
        let port = to.port().to_be_bytes();
        let request = [&[5, 1, 0, 1][..], &ip.octets(), &port].concat();
        stream.write_all(&request).await?;
        match read::<10>(&mut stream).await?[1] {
            SUCCEEDED => Ok(stream),
            code => Err(io::Error::other(format!("{code}"))),
        }
    }

    #[tokio::test]
    async fn the_engine_gets_through_and_nobody_else() {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let place = tempfile::tempdir().unwrap();
        let (peers, gossip) = gossip::lab::alone(place.path());
        let sources = Arc::new(Sources::new(peers, gossip));
        let policy = Arc::new(SharePolicy::new(Share::Lan, vec![]));
        let tracker = LocalTracker::start(sources, policy, stop.clone());
        let tracker = tracker.await.unwrap();
        let way_out = WayOut::start(tracker, &tasks, &stop).await.unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let to = listener.local_addr().unwrap();

        let mut here = connect(&way_out, &way_out.password, to).await.unwrap();
        let (mut there, _) = listener.accept().await.unwrap();
        here.write_all(b"ping").await.unwrap();
        assert_eq!(&read::<4>(&mut there).await.unwrap(), b"ping");
        // A handshake, because what is none does not get through.
        there.write_all(&[0x13; 68]).await.unwrap();
        assert_eq!(read::<68>(&mut here).await.unwrap(), [0x13; 68]);
        drop(there);
        assert!(read::<1>(&mut here).await.is_err());

        assert!(connect(&way_out, "guess", to).await.is_err());
        drop(listener);
        let error = connect(&way_out, &way_out.password, to).await.unwrap_err();
        assert_eq!(error.to_string(), REFUSED.to_string());
        stop.cancel();
        tasks.close();
        tasks.wait().await;
    }
}
