//! A neighbour that lies, floods or tells of machines that do not exist costs little: what is there is still found, and
//! it is left alone.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use crate::lab::{
    Channel, Node, TopicPeer, answer_for_the_topic_only, connect_silently, raw_host, topic,
    wait_for,
};

const SOON: Duration = Duration::from_secs(30);
/// More than any honest neighbour says at once.
const FLOOD: usize = 100_000;
/// More visitors than a node hears at once.
const SILENT: u8 = 100;
/// For so long it is counted how often a dial-back comes: 16 at once, then one a second.
const WATCHED: Duration = Duration::from_secs(3);
const DIALS: usize = 25;
/// A flood may cost so much memory, with all that the allocator keeps of it.
const FLOOD_MEMORY: u64 = 30_000_000;

struct Lab {
    channel: Channel,
    origin: Node,
    agent: Node,
}

impl Lab {
    /// An agent, and a seedbox that has everything.
    fn new(test: &str) -> Option<Self> {
        let channel = Channel::small(test, &[])?;
        let origin = Node::start(&channel.seedbox("origin"));
        origin.wait_for_offer(channel.closure.paths.len());
        let agent = Node::start(&channel.agent("agent").peer(origin.peer));
        agent.wait_for_channel();
        Some(Self {
            channel,
            origin,
            agent,
        })
    }

    fn fetch(&self) {
        self.channel.fetch_from_swarm(&self.agent);
    }

    /// A neighbour of the seedbox, where it waits for dial-backs, and how it asks for one.
    fn dial_back_asker(&self) -> (TopicPeer, TcpListener, Vec<u8>) {
        let publication = &self.channel.publication;
        let layer = publication.layers()[0].sha256;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let mut asker = TopicPeer::connect(self.origin.peer, topic(publication), 1);
        // The message has no room for an address: only the port of its own is the asker's to choose.
        asker.say_hello(listener.local_addr().unwrap().port(), &[layer]);
        let request = [b"d9:dial backd5:layer32:", &layer[..], b"3:rowi0eee"].concat();
        (asker, listener, request)
    }
}

#[test]
fn who_says_that_it_has_everything_is_believed_for_a_while() {
    let Some(lab) = Lab::new("who_says_that_it_has_everything_is_believed_for_a_while") else {
        return;
    };
    let topic = topic(&lab.channel.publication);
    let layer = &lab.channel.publication.layers()[0];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    answer_for_the_topic_only(listener, topic, 1);
    let mut liar = TopicPeer::connect(lab.agent.peer, topic, 1);
    liar.say_hello(port, &[layer.sha256]);
    liar.say_have_all(&layer.sha256, layer.rows as u8);
    let seen = liar.hear("seen").unwrap();
    assert!(seen.starts_with(b"d4:seend4:openi1e"), "its port was tried");
    // All of it comes, although half of those who have it do not.
    lab.fetch();
    assert!(liar.is_left_alone());
}

#[test]
fn a_flood_ends_the_connection() {
    let Some(lab) = Lab::new("a_flood_ends_the_connection") else {
        return;
    };
    let topic = topic(&lab.channel.publication);
    let layer = &lab.channel.publication.layers()[0];
    let all_rows = [
        b"d5:layer32:",
        &layer.sha256[..],
        b"4:rows3:\0\0",
        &[layer.rows as u8],
        b"e",
    ];
    let rows_again = [
        &b"d7:who hasd2:idi1e4:rowsl"[..],
        &all_rows.concat().repeat(64),
        b"eee",
    ];
    let floods: [(&str, Vec<u8>); 5] = [
        ("rows named twice", rows_again.concat()),
        ("questions", b"d7:who hasd2:idi1e4:rowslee1:xe".to_vec()),
        ("questions", b"d7:who hasd2:idi1e4:rowsleee".to_vec()),
        ("future messages", b"d6:futurei1ee".to_vec()),
        (
            "hellos",
            b"d5:hellod6:layersle10:neighboursi1e4:porti1e6:publici1e7:seedboxi0eee".to_vec(),
        ),
    ];
    let before = lab.agent.peak_memory();
    for (number, (what, message)) in floods.into_iter().enumerate() {
        let mut flooder = TopicPeer::connect(lab.agent.peer, topic, number as u8);
        flooder.say_hello(0, &[]);
        let accepted = (0..FLOOD).take_while(|_| flooder.say(&message)).count();
        assert!(flooder.is_left_alone(), "{what}: {accepted} were taken");
    }
    assert!(lab.agent.peak_memory() < before + FLOOD_MEMORY);
    lab.fetch();
}

#[test]
fn silent_visitors_do_not_close_the_door_to_others() {
    let Some(lab) = Lab::new("silent_visitors_do_not_close_the_door_to_others") else {
        return;
    };
    let topic = topic(&lab.channel.publication);
    let connect = |number| connect_silently(lab.agent.peer, topic, number);
    let silent: Vec<_> = (0..SILENT).filter_map(connect).collect();
    assert!(!silent.is_empty());
    // Another machine, as far as the agent sees.
    let mut other = TopicPeer::connect_from(raw_host(2), lab.agent.peer, topic, SILENT);
    other.say_hello(0, &[]);
    assert!(other.hear("hello").is_some());
    assert!(silent.len() < usize::from(SILENT));
}

#[test]
fn a_dial_back_goes_to_who_asks_and_not_too_often() {
    let Some(lab) = Lab::new("a_dial_back_goes_to_who_asks_and_not_too_often") else {
        return;
    };
    let (mut asker, listener, request) = lab.dial_back_asker();
    (0..200).for_each(|_| assert!(asker.say(&request)));
    let mut hello = [0; 68];
    let mut served = 0;
    let start = std::time::Instant::now();
    while start.elapsed() < WATCHED {
        match listener.accept() {
            Ok((mut stream, _)) => {
                stream.set_nonblocking(false).unwrap();
                stream.read_exact(&mut hello).unwrap();
                // Not the probe of the port, which is for the topic.
                served += usize::from(hello[28..48] != *topic(&lab.channel.publication).as_bytes());
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
    assert!((1..=DIALS).contains(&served), "{served} connections");
}

#[test]
fn who_hoards_dial_backs_loses_them() {
    let Some(lab) = Lab::new("who_hoards_dial_backs_loses_them") else {
        return;
    };
    let (mut hoarder, listener, request) = lab.dial_back_asker();
    let mut hoard = Vec::new();
    // It asks for nothing on any of them: before all of them are its own, those that are idle go.
    wait_for("connection that it loses", SOON, || {
        hoarder.say(&request);
        while let Ok((mut stream, _)) = listener.accept() {
            let mut hello = [0; 68];
            stream.set_nonblocking(false).unwrap();
            stream.read_exact(&mut hello).unwrap();
            stream.write_all(&hello).unwrap();
            stream.set_nonblocking(true).unwrap();
            // Not the probe of the port, which is for the topic.
            if hello[28..48] != *topic(&lab.channel.publication).as_bytes() {
                hoard.push(stream);
            }
        }
        let mut buffer = [0; 4096];
        let lost = |stream: &mut std::net::TcpStream| matches!(stream.read(&mut buffer), Ok(0));
        let lost = hoard.iter_mut().any(lost);
        lost.then_some(())
    });
    assert!(hoard.len() < SILENT.into(), "{}", hoard.len());
}

#[test]
fn invented_peers_do_not_keep_the_real_ones_out() {
    let Some(lab) = Lab::new("invented_peers_do_not_keep_the_real_ones_out") else {
        return;
    };
    let topic = topic(&lab.channel.publication);
    // Addresses of this machine at which nobody listens; in 127/8 nothing leaves it.
    let mut inventors = Vec::new();
    for number in 0..60u8 {
        let mut inventor = TopicPeer::connect(lab.agent.peer, topic, number);
        inventor.say_hello(0, &[]);
        let peers = (0..50u8).flat_map(|k| [b'6', b':', 127, 9, number, k, 0, 1]);
        let peers: Vec<u8> = peers.collect();
        inventor.say(&[b"d5:peersl", &peers[..], b"ee"].concat());
        inventors.push(inventor);
    }
    let known = lab.agent.wait("invented peers", |s| {
        s["swarm"]["peers"].as_u64() > Some(500)
    });
    assert!(known["swarm"]["peers"].as_u64() <= Some(2000), "{known}");
    lab.fetch();
    assert!(lab.origin.bytes("uploaded") > 0);
    // A machine that comes now is met as well.
    let late = Node::start(&lab.channel.meeting_point("late").peer(lab.agent.peer));
    wait_for("neighbour", SOON, || {
        (late.status()["swarm"]["neighbours"].as_u64() > Some(0)).then_some(())
    });
}
