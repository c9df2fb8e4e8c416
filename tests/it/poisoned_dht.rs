//! A DHT node that lies to whoever begins at it costs time, and nothing else. All of it happens on loopback.

use std::{
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::Duration,
};

use narswarm::manifest::Pointer;

use crate::lab::{
    Channel, DhtLiar, ForgedItem, Keys, Node, NodeConfig, Publication, Scratch, wait_for,
};

/// What the book of peers holds at most.
const MAX_PEERS: u64 = 2000;
const MEMORY: u64 = 150_000_000;
/// What the program reads of a datagram.
const DATAGRAM: usize = 2048;
const PATIENCE: Duration = Duration::from_secs(60);
const PONG: &[u8] = b"1:t4:ping";
const PING: &[u8] = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t4:ping1:y1:qe";

struct Lab {
    channel: Channel,
    liar: DhtLiar,
}

impl Lab {
    fn new(test: &str) -> Option<Self> {
        let channel = Channel::small(test, &[])?;
        let stranger = Keys::make(&channel.nix, &channel.scratch.path("stranger"));
        let liar = DhtLiar::start(forged(&channel.publication, &stranger));
        Some(Self { channel, liar })
    }

    /// It knows the link alone, and where its DHT begins.
    fn agent(&self, bootstrap: &[SocketAddr]) -> Node {
        Node::start(&self.channel.linked("agent").dht(bootstrap))
    }

    /// Harm that lies could do to an agent.
    fn check(&self, agent: &Node) {
        let status = agent.status();
        let peers = status["swarm"]["peers"].as_u64().unwrap();
        assert!(peers <= MAX_PEERS, "{peers} peers");
        assert!(agent.peak_memory() < MEMORY, "{}", agent.peak_memory());
        assert!(self.liar.asked() > 0);
    }
}

/// Pointers that are none: signed by nobody, by somebody else, for another sequence, and without end.
fn forged(publication: &Publication, stranger: &Keys) -> Vec<ForgedItem> {
    let pointer = Pointer::parse(&publication.pointer_to_nothing(9)).unwrap();
    let foreign = Publication {
        keys: stranger.clone(),
        ..publication.clone()
    };
    let foreign = Pointer::parse(&foreign.pointer_to_nothing(9)).unwrap();
    let good = ForgedItem::of(&pointer);
    let unsigned = ForgedItem {
        signature: [7; 64],
        ..good.clone()
    };
    let renumbered = ForgedItem {
        sequence: i64::MAX as u64,
        ..good.clone()
    };
    let endless = ForgedItem {
        value: vec![b'l'; 1000],
        ..good
    };
    vec![unsigned, renumbered, endless, ForgedItem::of(&foreign)]
}

/// Beside one honest node it only costs time: the link alone leads to the release.
#[test]
fn with_one_honest_node_the_link_is_still_enough() {
    let Some(lab) = Lab::new("with_one_honest_node_the_link_is_still_enough") else {
        return;
    };
    let (channel, liar) = (&lab.channel, lab.liar.address);
    // It follows the channel as well, and has nothing.
    let honest = Node::start(&channel.meeting_point("honest").dht(&[liar]));
    let _seedbox = Node::start(&channel.seedbox("seedbox").dht(&[liar, honest.peer]));
    let agent = lab.agent(&[liar, honest.peer]);
    agent.wait_for_channel();
    let path = lab.channel.closure.inner();
    assert_eq!(agent.get(&path.nar()).body.len() as u64, path.nar_size);
    lab.check(&agent);
}

/// With nobody else it says what is missing, and answers Nix as before; whoever comes later is met.
#[test]
fn alone_it_keeps_an_agent_from_nothing_but_news() {
    let Some(lab) = Lab::new("alone_it_keeps_an_agent_from_nothing_but_news") else {
        return;
    };
    let agent = lab.agent(&[lab.liar.address]);
    let status = agent.wait("invented peers", |status| {
        status["swarm"]["peers"].as_u64() > Some(0)
    });
    let channel = &status["channels"][0];
    assert_eq!(channel["state"], "none", "{status}");
    let page = agent.doctor();
    assert_eq!(page["ok"], false);
    assert!(
        page.to_string().contains("no release is here yet"),
        "{page}"
    );
    let path = lab.channel.closure.inner();
    assert_eq!(agent.get(&path.narinfo()).status, 404);
    lab.check(&agent);

    // One that connects by itself is enough.
    let _seedbox = Node::start(&lab.channel.seedbox("seedbox").peer(agent.peer));
    agent.wait_for_channel();
    assert_eq!(agent.get(&path.nar()).body.len() as u64, path.nar_size);
}

/// Anybody can send one, in anybody's name: parsing it must not use up its thread's stack.
#[test]
fn no_datagram_is_nested_too_deeply() {
    let scratch = Scratch::new();
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_millis(200)))
        .unwrap();
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"));
    // In a DHT of the LAN it answers from the start.
    let agent = Node::start(&agent.dht(&[socket.local_addr().unwrap()]));
    let answers = || {
        socket.send_to(PING, agent.peer).unwrap();
        let mut answer = [0; DATAGRAM];
        let (length, _) = socket.recv_from(&mut answer).ok()?;
        let answer = &answer[..length];
        // It asks questions of its own.
        let is_ours = answer.windows(PONG.len()).any(|part| part == PONG);
        is_ours.then_some(())
    };
    wait_for("answer to a ping", PATIENCE, answers);
    let id = "2:id20:aaaaaaaaaaaaaaaaaaaa";
    let (request, response) = ("d1:q4:ping1:t4:aaaa1:y1:q1:a", "d1:t4:aaaa1:y1:r1:r");
    for head in [
        "".to_owned(),
        "d1:t4:aaaa1:x".to_owned(),
        "d1:t".to_owned(),
        "d1:v".to_owned(),
        "d1:a".to_owned(),
        "d1:r".to_owned(),
        "d1:e".to_owned(),
        request.to_owned(),
        format!("{request}d{id}1:x"),
        format!("{request}d{id}6:target"),
        response.to_owned(),
        format!("{response}d{id}1:v"),
        format!("{response}d{id}5:token1:x6:values"),
    ] {
        for level in ["l", "d", "d1:a", "d0:", "ld1:x"] {
            for datagram in [open(&head, level), closed(&head, level)] {
                assert!(datagram.len() > DATAGRAM - 20 && datagram.len() <= DATAGRAM);
                socket.send_to(&datagram, agent.peer).unwrap();
            }
        }
        wait_for(&format!("answer after {head}"), PATIENCE, answers);
    }
    assert_eq!(agent.status()["ready"], true);
}

/// As many levels as fit.
fn open(head: &str, level: &str) -> Vec<u8> {
    let levels = (DATAGRAM - head.len()) / level.len();
    (head.to_owned() + &level.repeat(levels)).into_bytes()
}

/// As many levels as fit together with their ends.
fn closed(head: &str, level: &str) -> Vec<u8> {
    let ends = "e".repeat(level.matches(['l', 'd']).count());
    let inside = "0:";
    let tail = "eee";
    let space = DATAGRAM - head.len() - inside.len() - tail.len();
    let levels = space / (level.len() + ends.len());
    let (open, close) = (level.repeat(levels), ends.repeat(levels));
    [head, &open, inside, &close, tail].concat().into_bytes()
}
