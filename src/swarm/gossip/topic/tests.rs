use std::net::SocketAddr;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::message::Hello;
use super::super::neighbour::Introduction;
use super::*;

const LIMIT: usize = 8;

fn neighbour(id: u64, dialled: bool) -> Arc<Neighbour> {
    neighbour_at([192, 0, 2, id as u8], id, dialled)
}

fn neighbour_at(ip: [u8; 4], id: u64, dialled: bool) -> Arc<Neighbour> {
    let mut peer_id = [0; 20];
    peer_id[..8].copy_from_slice(&id.to_be_bytes());
    Arc::new(Neighbour::new(Introduction {
        id,
        address: SocketAddr::from((ip, 6881)),
        dialled,
        peer_id,
        our_id: [9; 20],
        mute: false,
        is_near: false,
        budget: Arc::default(),
        stop: CancellationToken::new(),
        outbox: mpsc::channel(1).0,
    }))
}

fn hello(neighbours: u64) -> Hello {
    Hello {
        layers: vec![],
        neighbours,
        port: 1,
        public: true,
        seedbox: false,
    }
}

fn topic() -> Topic {
    Topic::new(InfoHash::from_bytes([1; 20]))
}

#[test]
fn slots_are_bounded_and_some_are_kept() {
    let topic = topic();
    let all: Vec<_> = (0..30).map(|id| neighbour(id, false)).collect();
    let admitted = |ids: std::ops::Range<usize>, kind| {
        let new = all[ids].iter();
        new.filter(|n| topic.admit(n, kind, LIMIT)).count()
    };
    assert_eq!(admitted(0..10, Kind::Stranger), LIMIT);
    assert_eq!(admitted(10..14, Kind::Named), LIMIT / RESERVE);
    assert_eq!(admitted(14..20, Kind::Lan), LIMIT / RESERVE);
    assert_eq!(topic.count(), LIMIT);
    let evicted = all.iter().filter(|n| n.stop.is_cancelled()).count();
    assert_eq!(evicted, 2 * (LIMIT / RESERVE));
    topic.rotate(LIMIT);
    assert_eq!(topic.count(), LIMIT - 1);
    assert!(topic.has_room(Kind::Stranger, LIMIT));
}

#[test]
fn who_says_that_it_is_a_seedbox_stays_and_pushes_nobody_out() {
    let topic = topic();
    let all: Vec<_> = (0..12).map(|id| neighbour(id, true)).collect();
    let (first, late) = all.split_at(LIMIT);
    first
        .iter()
        .for_each(|n| assert!(topic.admit(n, Kind::Stranger, LIMIT)));
    let boxes = &first[..LIMIT / RESERVE];
    boxes.iter().for_each(|n| topic.set_kind(n, Kind::Seedbox));
    assert!(!topic.admit(&late[0], Kind::Seedbox, LIMIT));
    for new in late {
        topic.rotate(LIMIT);
        assert!(topic.admit(new, Kind::Stranger, LIMIT));
    }
    assert!(boxes.iter().all(|n| !n.stop.is_cancelled()));
}

#[test]
fn the_lonely_are_let_in_now_and_then() {
    let topic = topic();
    (0..8).for_each(|id| assert!(topic.admit(&neighbour(id, false), Kind::Stranger, LIMIT)));
    let busy = neighbour(20, false);
    busy.set_hello(hello(7));
    assert!(!topic.admit_lonely(&busy, Kind::Stranger, LIMIT));
    let [first, second] = [21, 22].map(|id| neighbour(id, false));
    [&first, &second].iter().for_each(|n| n.set_hello(hello(0)));
    assert!(topic.admit_lonely(&first, Kind::Stranger, LIMIT));
    assert!(!topic.admit_lonely(&second, Kind::Stranger, LIMIT));
    assert_eq!(topic.count(), LIMIT);
}

#[test]
fn of_two_connections_to_one_neighbour_the_same_stays_on_both_sides() {
    let topic = topic();
    assert!(topic.admit(&neighbour(1, false), Kind::Lan, LIMIT));
    // Peer 1 has the smaller id: the connection that it dialled stays.
    assert!(!topic.admit(&neighbour(1, true), Kind::Lan, LIMIT));
    assert!(!topic.admit(&neighbour(1, false), Kind::Lan, LIMIT));
    let other = Topic::new(InfoHash::from_bytes([2; 20]));
    assert!(other.admit(&neighbour(1, true), Kind::Lan, LIMIT));
    assert!(other.admit(&neighbour(1, false), Kind::Lan, LIMIT));
    assert_eq!(other.count(), 1);
}

#[test]
fn one_machine_on_the_lan_does_not_fill_the_slots() {
    let topic = topic();
    let [host, other, here] = [[10, 0, 0, 1], [10, 0, 0, 2], [127, 0, 0, 1]];
    let comes = |ip: [u8; 4], id| {
        !topic.is_crowded(Kind::Lan, ip.into(), LIMIT)
            && topic.admit(&neighbour_at(ip, id, false), Kind::Lan, LIMIT)
    };
    let its = (0..16).filter(|id| comes(host, *id)).count();
    assert_eq!(its, LIMIT / PER_HOST);
    assert!(comes(other, 20));
    assert_eq!((21..24).filter(|id| comes(here, *id)).count(), 3);
}

#[test]
fn a_copied_peer_id_pushes_nobody_out() {
    let topic = topic();
    let known = neighbour(1, false);
    let copy = neighbour_at([198, 51, 100, 1], 1, true);
    assert!(topic.admit(&known, Kind::Stranger, LIMIT));
    assert!(topic.admit(&copy, Kind::Stranger, LIMIT));
    assert!(!known.stop.is_cancelled());
    assert_eq!(topic.count(), 2);
}

#[test]
fn one_network_does_not_fill_the_slots_and_mercy_spares_whom_we_dialled() {
    let topic = topic();
    for id in 0..LIMIT as u64 {
        let crowded = topic.is_crowded(Kind::Stranger, [192, 0, 2, 77].into(), LIMIT);
        assert_eq!(crowded, id >= (LIMIT / PER_NETWORK) as u64);
        topic.admit(&neighbour(id, true), Kind::Stranger, LIMIT);
    }
    assert!(!topic.is_crowded(Kind::Stranger, [192, 0, 3, 77].into(), LIMIT));
    let lonely = neighbour(20, false);
    lonely.set_hello(hello(0));
    assert!(!topic.admit_lonely(&lonely, Kind::Stranger, LIMIT));
}
