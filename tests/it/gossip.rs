//! Machines that know one address find each other, and the one that has what they want.

use std::{fs, net::SocketAddr, time::Duration};

use crate::lab::{Channel, Node, NodeConfig, Release, TopicPeer, pointer_message, topic, wait_for};

const SOON: Duration = Duration::from_secs(20);

fn neighbours(node: &Node) -> u64 {
    node.status()["swarm"]["neighbours"].as_u64().unwrap()
}

#[test]
fn who_knows_one_address_gets_what_another_has() {
    let Some(lab) = Channel::small("who_knows_one_address_gets_what_another_has", &[]) else {
        return;
    };
    let meeting = Node::start(&lab.meeting_point("meeting"));
    let holder = Node::start(&lab.seedbox("holder").peer(meeting.peer));
    holder.wait_for_offer(lab.closure.paths.len());
    wait_for("neighbour", SOON, || {
        (neighbours(&holder) > 0).then_some(())
    });

    let agent = Node::start(&lab.agent("agent").peer(meeting.peer));
    agent.wait_for_channel();
    wait_for("neighbour", SOON, || (neighbours(&agent) > 0).then_some(()));
    lab.fetch_from_swarm(&agent);
    assert_eq!(meeting.bytes("uploaded"), 0);
    assert!(holder.bytes("uploaded") > 0);
    // The port of a neighbour that came in was tried, and it was told.
    holder.wait("port that is open", |status| {
        status["swarm"]["port"] == "open"
    });
}

/// Whoever came first was told of nobody, and those who come at the same moment know nobody either.
#[test]
fn a_neighbour_hears_of_one_that_comes_later() {
    let Some(lab) = Channel::small("a_neighbour_hears_of_one_that_comes_later", &[]) else {
        return;
    };
    let meeting = Node::start(&lab.meeting_point("meeting"));
    meeting.wait_for_channel();
    let mut first = TopicPeer::connect(meeting.peer, topic(&lab.publication), 1);
    first.say_hello(0, &[]);
    let later = Node::start(&lab.agent("later").peer(meeting.peer));
    let SocketAddr::V4(address) = later.peer else {
        panic!("{} is not of this lab", later.peer);
    };
    let compact = [&address.ip().octets()[..], &address.port().to_be_bytes()].concat();
    let told = first.hear("peers").expect("the meeting point stays");
    assert!(told.windows(compact.len()).any(|part| part == compact));
}

#[test]
fn what_nix_installs_is_told_to_those_who_are_there() {
    let Some(lab) = Channel::small("what_nix_installs_is_told_to_those_who_are_there", &[]) else {
        return;
    };
    let origin = Node::start(&lab.seedbox("origin"));
    let first = Node::start(&lab.agent("first").peer(origin.peer));
    let second = Node::start(&lab.agent("second").peer(origin.peer).peer(first.peer));
    wait_for("neighbours", SOON, || {
        (neighbours(&second) == 2).then_some(())
    });
    lab.fetch(&first);
    // Without what it downloaded there is only its store to seed from, and only its have-map to tell of it.
    first.wait_for_offer(lab.closure.paths.len());
    origin.kill();
    lab.fetch_from_swarm(&second);
}

/// What a machine has got a moment ago is not in its have-map yet.
#[test]
fn who_has_denied_it_is_asked_when_nobody_else_is_left() {
    let Some(lab) = Channel::small("who_has_denied_it_is_asked_when_nobody_else_is_left", &[])
    else {
        return;
    };
    let other = Release {
        channel: "other".to_owned(),
        ..Release::of(
            lab.closure,
            &lab.publication.keys,
            lab.scratch.path("other"),
        )
    };
    // It does not meet on the agent's topic: the scripted peer speaks there for its port.
    let origin = NodeConfig::store_seedbox(lab.scratch.path("origin"), &lab.closure.root);
    let origin = Node::start(&origin.follow(&other.publish()));
    origin.wait_for_offer(lab.closure.paths.len());
    let agent = Node::start(&lab.agent("agent").peer(origin.peer));
    agent.wait_for_channel();
    let layer = &lab.publication.layers()[0];
    let mut denier = TopicPeer::connect(agent.peer, topic(&lab.publication), 1);
    denier.say_hello(origin.peer.port(), &[layer.sha256]);
    denier.say_have_none(&layer.sha256);
    assert!(denier.hear("seen").is_some(), "it is a neighbour");
    lab.fetch_from_swarm(&agent);
}

/// A holder behind NAT can be asked nowhere else for an info dict, and has to encode a NAR for it.
#[test]
fn questions_for_info_dicts_that_come_in_a_row_are_all_answered() {
    let test = "questions_for_info_dicts_that_come_in_a_row_are_all_answered";
    let Some(lab) = Channel::small(test, &[]) else {
        return;
    };
    let holder = Node::start(&lab.seedbox("holder"));
    holder.wait_for_offer(lab.closure.paths.len());
    let layer = &lab.publication.layers()[0];
    let mut asker = TopicPeer::connect(holder.peer, topic(&lab.publication), 1);
    asker.say_hello(0, &[layer.sha256]);
    let rows = layer.rows as u8;
    (0..rows).for_each(|row| asker.say_want_info(&layer.sha256, row));
    let mut answered = 0;
    while answered < rows {
        let dicts = asker.hear("info").expect("the holder stays");
        let key = b"12:piece length";
        answered += dicts.windows(key.len()).filter(|w| w == key).count() as u8;
    }
}

/// The newest may lead to nothing: the one whose release is here is told beside it.
#[test]
fn the_newest_pointer_is_passed_on_and_the_one_that_leads_to_a_release() {
    let test = "the_newest_pointer_is_passed_on_and_the_one_that_leads_to_a_release";
    let Some(lab) = Channel::small(test, &[]) else {
        return;
    };
    let own = fs::read(lab.publication.out.join("pointer")).unwrap();
    let node = Node::start(&lab.agent("agent"));
    node.wait_for_channel();
    let topic = topic(&lab.publication);
    let newest = lab.publication.pointer_to_nothing(9);
    let mut bringer = TopicPeer::connect(node.peer, topic, 1);
    bringer.say_hello(0, &[]);
    bringer.say_pointer(&newest);
    wait_for("newest pointer", SOON, || {
        let mut listener = TopicPeer::connect(node.peer, topic, 2);
        listener.say_hello(0, &[]);
        let first = listener.hear("pointer")?;
        (first == pointer_message(&newest)).then(|| {
            let second = listener.hear("pointer").unwrap();
            assert_eq!(second, pointer_message(&own));
        })
    });
    // Whoever brings one with a wrong signature is hung up on.
    let mut forged = newest;
    let last = forged.len() - 3;
    forged[last] ^= 1;
    bringer.say_pointer(&forged);
    assert!(bringer.is_left_alone());
}
