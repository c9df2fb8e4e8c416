//! A DHT node that lies: it is everywhere, it knows machines that do not exist, and it has items that nobody signed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use narswarm::{manifest::Pointer, torrent::bencode::Writer};

/// Every so often it looks whether the test has ended.
const PAUSE: Duration = Duration::from_millis(50);
/// Addresses in one answer: what fits into a datagram that is read whole.
const LIES: u8 = 40;

/// A mutable item (BEP 44) with something wrong about it.
#[derive(Clone)]
pub struct ForgedItem {
    pub key: [u8; 32],
    pub sequence: u64,
    pub signature: [u8; 64],
    pub value: Vec<u8>,
}

impl ForgedItem {
    /// With nothing wrong about it yet.
    pub fn of(pointer: &Pointer) -> Self {
        Self {
            key: *pointer.key(),
            sequence: pointer.sequence(),
            signature: *pointer.signature(),
            value: pointer.value(),
        }
    }
}

pub struct DhtLiar {
    pub address: SocketAddr,
    asked: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DhtLiar {
    /// On loopback. Whoever asks for an item gets one of these.
    pub fn start(forged: Vec<ForgedItem>) -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(PAUSE)).unwrap();
        let address = socket.local_addr().unwrap();
        let (asked, stop) = (Arc::<AtomicUsize>::default(), Arc::<AtomicBool>::default());
        let (counter, ended) = (asked.clone(), stop.clone());
        let thread = thread::spawn(move || {
            let mut buffer = [0; 2048];
            while !ended.load(Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else {
                    continue;
                };
                let number = counter.fetch_add(1, Relaxed);
                if let Some(answer) = answer(&buffer[..length], address, number, &forged) {
                    let _ = socket.send_to(&answer, from);
                }
            }
        });
        Self {
            address,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// Questions that came.
    pub fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Drop for DhtLiar {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

fn answer(
    question: &[u8],
    ourselves: SocketAddr,
    number: usize,
    forged: &[ForgedItem],
) -> Option<Vec<u8>> {
    let transaction = after(question, b"1:t4:", 4)?;
    let is = |what: &[u8]| question.windows(what.len()).any(|window| window == what);
    let target = after(question, b"6:target20:", 20);
    let target = target.or_else(|| after(question, b"9:info_hash20:", 20));
    // Wherever is looked, there it is: its id is what was asked for.
    let id = target.unwrap_or(&[7; 20]);
    let item = (is(b"1:q3:get") && !forged.is_empty()).then(|| &forged[number % forged.len()]);
    let mut out = Writer::new();
    out.open_dict();
    out.bytes("r");
    out.open_dict();
    out.bytes_at("id", id);
    if let Some(item) = item {
        out.bytes_at("k", item.key);
    }
    out.bytes_at("nodes", nodes(id, ourselves));
    if let Some(item) = item {
        out.unsigned_at("seq", item.sequence);
        out.bytes_at("sig", item.signature);
    }
    out.bytes_at("token", "lies");
    if let Some(item) = item {
        out.bytes_at("v", &item.value);
    }
    if is(b"9:get_peers") {
        out.bytes("values");
        out.open_list();
        invented(number).iter().for_each(|peer| out.bytes(peer));
        out.close();
    }
    out.close();
    out.bytes_at("t", transaction);
    out.bytes_at("y", "r");
    out.close();
    Some(out.finish())
}

/// Itself under many ids, and machines that nobody has, all of them right beside what is looked for.
fn nodes(target: &[u8], ourselves: SocketAddr) -> Vec<u8> {
    let mut nodes = Vec::new();
    for k in 1..=LIES {
        let mut id = target.to_vec();
        id[19] ^= k;
        let dead = SocketAddr::from((Ipv4Addr::new(127, 9, 9, k), 1));
        nodes.extend(id);
        nodes.extend(compact(if k % 2 == 0 { ourselves } else { dead }));
    }
    nodes
}

/// Machines of this one's own loopback network at which nobody listens: nothing leaves this machine.
fn invented(number: usize) -> Vec<Vec<u8>> {
    let peer = |k| SocketAddr::from((Ipv4Addr::new(127, 9, number as u8, k), 1));
    (1..=LIES).map(|k| compact(peer(k))).collect()
}

/// BEP 23.
fn compact(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else {
        panic!("{address} has no compact form")
    };
    [&ip.octets()[..], &address.port().to_be_bytes()].concat()
}

/// What follows the last `key`.
fn after<'a>(bytes: &'a [u8], key: &[u8], length: usize) -> Option<&'a [u8]> {
    let at = bytes.windows(key.len()).rposition(|window| window == key)?;
    bytes.get(at + key.len()..)?.get(..length)
}
