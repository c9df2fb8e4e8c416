//! A DHT node that lies to whoever begins at it costs time, and nothing else. All of it happens on loopback.

use std::net::SocketAddr;

use narswarm::manifest::Pointer;

use crate::lab::{Channel, DhtLiar, ForgedItem, Keys, Node, Publication};

/// What the book of peers holds at most.
const MAX_PEERS: u64 = 2000;
const MEMORY: u64 = 150_000_000;

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
