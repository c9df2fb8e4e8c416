use super::*;

fn address(i: u16) -> SocketAddr {
    SocketAddr::from(([10, (i / 250) as u8, (i % 250) as u8, 1], i + 1))
}

#[test]
fn the_best_come_first_and_the_book_is_bounded() {
    let book = PeerBook::default();
    book.add(address(1), PeerOrigin::Tracker);
    book.add(address(2), PeerOrigin::Config);
    book.add(address(3), PeerOrigin::Config);
    book.saw(address(3), false);
    assert_eq!(book.candidates(), [address(2), address(1), address(3)]);
    book.add("0.0.0.0:1".parse().unwrap(), PeerOrigin::Tracker);
    book.add("192.0.2.1:0".parse().unwrap(), PeerOrigin::Tracker);
    assert_eq!(book.len(), 3);
    book.configure(&[address(3), address(4)]);
    assert_eq!(book.candidates(), [address(4), address(1), address(3)]);
    for i in 0..5000 {
        book.add(address(i), PeerOrigin::Tracker);
    }
    assert_eq!(book.len(), MAX_PEERS);
    book.add(address(6000), PeerOrigin::Manifest);
    assert!(book.is_named(&address(6000)));
    assert_eq!(book.len(), MAX_PEERS);
}

#[test]
fn what_peers_tell_of_is_asked_only_when_it_was_reached() {
    let book = PeerBook::default();
    (0..5000).for_each(|i| book.add(address(i), PeerOrigin::Exchange));
    (0..5000).for_each(|i| book.answered(address(i)));
    assert!(book.candidates().is_empty());
    book.saw(address(7), true);
    assert_eq!(book.candidates(), [address(7)]);
    // A flood does not keep others out.
    book.add(address(5001), PeerOrigin::Tracker);
    assert_eq!(book.candidates().len(), 2);
    book.ban(address(7));
    assert!(book.is_banned(address(7)) && book.reached().is_empty());
    assert_eq!(book.candidates(), [address(5001)]);
}

#[test]
fn one_network_has_neither_the_book_nor_a_download() {
    let book = PeerBook::default();
    for port in 1..3000 {
        let invented = SocketAddr::from(([203, 0, 113, (port % 200) as u8], port));
        book.add(invented, PeerOrigin::Exchange);
        book.saw(invented, true);
    }
    assert_eq!(book.len(), MAX_PER_NETWORK);
    (0..20).for_each(|i| book.add(address(i), PeerOrigin::Exchange));
    (0..20).for_each(|i| book.saw(address(i), true));
    let first = book.candidates();
    let first = &first[..20 + CANDIDATES_PER_NETWORK];
    assert!((0..20).all(|i| first.contains(&address(i))));
}

#[test]
fn nobody_keeps_out_those_who_are_named() {
    let book = PeerBook::default();
    (0..3000).for_each(|i| book.add(address(i), PeerOrigin::Tracker));
    (0..3000).for_each(|i| book.saw(address(i), true));
    assert_eq!(book.len(), MAX_PEERS);
    let named = address(4000);
    book.add(named, PeerOrigin::Manifest);
    assert!(book.is_named(&named) && book.is_named_host(named.ip()));
    // Multicast that is invented pushes nobody out who is named, and not everybody else.
    (4001..6000).for_each(|i| book.add(address(i), PeerOrigin::Lan));
    assert!(book.is_named(&named));
    let lan = PeerBook::default();
    (0..2000).for_each(|i| lan.add(address(i), PeerOrigin::Lan));
    assert_eq!(lan.len(), MAX_LAN);
    book.name(&[address(4001)]);
    assert!(book.is_named(&address(4001)) && !book.is_named(&named));
}

#[test]
fn what_was_invented_makes_room() {
    let book = PeerBook::default();
    (0..2000).for_each(|i| book.add(address(i), PeerOrigin::Dht));
    book.saw(address(0), true);
    (0..2000).for_each(|i| book.saw(address(i), false));
    book.add(address(2000), PeerOrigin::Dht);
    assert!(book.candidates().contains(&address(2000)));
    (3000..6000).for_each(|i| book.add(address(i), PeerOrigin::Dht));
    assert!(book.dialable().contains(&address(0)), "it was met once");
    assert_eq!(book.len(), MAX_PEERS);
}

#[test]
fn one_machine_on_the_lan_does_not_close_the_book() {
    let book = PeerBook::default();
    let at = |host: u8, port: u16| SocketAddr::from(([192, 168, 1, host], port));
    (1..=600).for_each(|port| book.add(at(1, port), PeerOrigin::Lan));
    assert_eq!(book.len(), MAX_PER_HOST);
    book.add(at(2, 1), PeerOrigin::Lan);
    assert!(book.dialable().contains(&at(2, 1)));
    // Link-local addresses are all in one /64.
    let six = |host: u16| SocketAddr::from(([0xfe80, 0, 0, 0, 0, 0, 0, host], 1));
    (1..=40).for_each(|host| book.add(six(host), PeerOrigin::Lan));
    assert!(book.dialable().contains(&six(40)));
    (1..=40).for_each(|host| book.forget(&six(host)));
    (1..=600).for_each(|port| book.saw(at(1, port), false));
    book.add(at(1, 601), PeerOrigin::Lan);
    assert!(book.dialable().contains(&at(1, 601)));
    assert_eq!(book.len(), MAX_PER_HOST + 1);
}

#[test]
fn what_the_configuration_drops_a_manifest_may_still_name() {
    let book = PeerBook::default();
    let both = [address(1), address(2)];
    book.configure(&both);
    book.name(&both[..1]);
    book.configure(&[]);
    assert!(book.is_named(&both[0]) && !book.dialable().contains(&both[1]));
    book.name(&[]);
    assert!(!book.is_named(&both[0]));
}
