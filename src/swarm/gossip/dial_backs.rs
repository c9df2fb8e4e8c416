//! Connections that we asked for: a holder that cannot be reached connects to us, and librqbit takes it from there.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;

use crate::swarm::protocol::{Incoming, sift};
use crate::torrent::InfoHash;

use super::neighbour::Neighbour;

/// Who has not connected by then will not.
const PATIENCE: Duration = Duration::from_secs(20);

/// Who was asked, and when, by the address from which it will come and the payload.
type Expected = HashMap<(IpAddr, InfoHash), (Instant, Arc<Neighbour>)>;

struct Engine {
    /// librqbit's listener on loopback.
    port: u16,
    heard: Heard,
}

/// Takes the peers of this payload of which the one at this address tells.
type Heard = Box<dyn Fn(IpAddr, &InfoHash, Vec<SocketAddr>) + Send + Sync>;

/// Who may come in, and for what.
#[derive(Default)]
pub struct DialBacks {
    expected: Mutex<Expected>,
    engine: OnceLock<Engine>,
}

impl DialBacks {
    pub fn set_engine(&self, port: u16, heard: Heard) {
        let _ = self.engine.set(Engine { port, heard });
    }

    /// One connection from this neighbour's address for this payload is expected.
    pub fn expect(&self, info_hash: InfoHash, neighbour: &Arc<Neighbour>) {
        let mut expected = self.lock();
        expected.retain(|_, (at, _)| at.elapsed() < PATIENCE);
        let key = (neighbour.address.ip(), info_hash);
        expected.insert(key, (Instant::now(), neighbour.clone()));
    }

    /// The download is over.
    pub fn forget(&self, info_hash: &InfoHash) {
        self.lock().retain(|(_, expected), _| expected != info_hash);
    }

    /// Whether anything is expected from this address.
    pub fn expects(&self, address: IpAddr) -> bool {
        let expected = self.lock();
        let mut fresh = expected
            .iter()
            .filter(|(_, (at, _))| at.elapsed() < PATIENCE);
        fresh.any(|((from, _), _)| *from == address)
    }

    /// The neighbour that was asked for this connection; it was asked for one.
    pub fn take(&self, address: IpAddr, info_hash: InfoHash) -> Option<Arc<Neighbour>> {
        let (at, neighbour) = self.lock().remove(&(address, info_hash))?;
        (at.elapsed() < PATIENCE).then_some(neighbour)
    }

    /// Hands the connection from this address on to librqbit, and returns the bytes that came through it.
    pub async fn splice(&self, from: IpAddr, mut peer: Incoming) -> io::Result<u64> {
        let Some(Engine { port, heard }) = self.engine.get() else {
            return Ok(0);
        };
        let engine = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
        let engine = TcpStream::connect(engine).await?;
        let _ = engine.set_nodelay(true);
        let (mut from_engine, to_engine) = engine.into_split();
        let (from_peer, read) = peer.reader.into_parts();
        let first = [&peer.hello.bytes[..], &read].concat();
        let heard = |info_hash: &InfoHash, peers| heard(from, info_hash, peers);
        let down = sift(&first, from_peer, to_engine, heard);
        let up = tokio::io::copy(&mut from_engine, &mut peer.write);
        // Either end closing ends both.
        let mut came = read.len() as u64;
        tokio::select! {
            bytes = down => came = bytes?.saturating_sub(peer.hello.bytes.len() as u64),
            _ = up => {}
        }
        Ok(came)
    }

    fn lock(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(|e| e.into_inner())
    }
}
