//! Several machines that want the same NAR at once get it from each other, whoever they are told of at the start.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use narswarm::torrent::InfoHash;

use crate::lab::{LoneNar, Node, RawPeer, get, raw_host, wait_for};

/// More pieces than a lone downloader sees at first.
const SIZE: u64 = 16_000_000;
const AGENTS: u64 = 4;
/// Neighbours tell what they have every few seconds.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn agents_that_know_only_the_origin_trade() {
    let Some(lone) = LoneNar::new("agents_that_know_only_the_origin_trade", SIZE) else {
        return;
    };
    let origin = Node::start(&lone.seedbox("origin").upload_limit("4MB/s"));
    origin.wait_for_offer(1);
    let agents: Vec<Node> = (0..AGENTS)
        .map(|i| Node::start(&lone.agent(&format!("agent-{i}")).peer(origin.peer)))
        .collect();
    let asking: Vec<_> = agents
        .iter()
        .map(|agent| {
            let (shim, nar) = (agent.shim, lone.path().nar());
            thread::spawn(move || get(shim, &nar))
        })
        .collect();
    for nar in asking {
        assert!(nar.join().unwrap().body == lone.bytes);
    }
    let size = lone.payload.bytes.len() as u64;
    let given = origin.bytes("uploaded");
    let traded: u64 = agents.iter().map(|agent| agent.bytes("uploaded")).sum();
    // Without trading it would be all of them, by all of them.
    assert!(given < AGENTS * size * 3 / 4, "{given} of {size}");
    assert!(traded > size, "{traded} of {size}");
    let status = origin.status();
    assert_eq!(status["accounting"][0]["channel"], "lab");
    assert_eq!(status["accounting"][0]["uploaded"], given, "{status}");

    // The origin hears that others have all of it by now: whoever comes sees everything at once.
    let info = &lone.payload.info;
    wait_for("peer that sees everything", PATIENCE, || {
        let mut peer = RawPeer::meet(raw_host(9), origin.peer, &info.info_hash()).unwrap();
        peer.has_everything(info).unwrap().then_some(())
    });
}

#[test]
fn the_seeder_is_a_tracker_of_what_it_offers() {
    let Some((lone, seedbox)) = LoneNar::seeded(
        "the_seeder_is_a_tracker_of_what_it_offers",
        100_000,
        |seedbox| seedbox,
    ) else {
        return;
    };
    let info_hash = lone.payload.info.info_hash();
    // First the seeder itself, then who else announced.
    let [high, low] = seedbox.peer.port().to_be_bytes();
    let alone = [&b"5:peers6:\x7f\0\0\x01"[..], &[high, low], b"6:peers60:e"].concat();
    let two = [
        &b"5:peers12:\x7f\0\0\x01"[..],
        &[high, low],
        b"\x7f\0\0\x01\x04\x57",
    ]
    .concat();
    let first = announce(seedbox.peer, &info_hash, "port=1111");
    assert!(first.ends_with(&alone), "{first:?}");
    let second = announce(seedbox.peer, &info_hash, "port=2222");
    assert!(
        second.windows(two.len()).any(|bytes| bytes == two),
        "{second:?}"
    );
    announce(seedbox.peer, &info_hash, "port=1111&event=stopped");
    let third = announce(seedbox.peer, &info_hash, "port=2222");
    assert!(third.ends_with(&alone), "{third:?}");
    let other = announce(seedbox.peer, &InfoHash::from_bytes([7; 20]), "port=1111");
    assert!(
        other.ends_with(b"d14:failure reason16:not offered heree"),
        "{other:?}"
    );
}

fn announce(tracker: SocketAddr, info_hash: &InfoHash, rest: &str) -> Vec<u8> {
    let escaped = info_hash
        .as_bytes()
        .map(|byte| format!("%{byte:02x}"))
        .concat();
    let mut stream = TcpStream::connect(tracker).unwrap();
    let head =
        format!("GET /announce?info_hash={escaped}&{rest} HTTP/1.1\r\nHost: seedbox\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}
