//! Whoever asks for the same NAR at the same time waits for one fetch, whatever part of it he wants.

use std::{io::Read as _, io::Write as _, net::TcpStream, thread, time::Duration};

use crate::lab::{Answer, LoneNar, Node, get, request, wait_for};

const SIZE: u64 = 6_000_000;
/// Slow enough for others to come while it is under way: the NAR takes three seconds.
const RATE: u64 = 2_000_000;

#[test]
fn requests_for_one_nar_share_one_fetch() {
    let Some(lone) = LoneNar::new("requests_for_one_nar_share_one_fetch", SIZE) else {
        return;
    };
    let upstream = lone.upstream(|body| Answer::Drip(body, RATE));
    let key = &lone.keys.narinfo;
    // One that nobody lists, and one that a manifest lists.
    for config in [lone.stranger("unlisted"), lone.agent("listed")] {
        upstream.forget();
        let agent = Node::start(&config.upstream(&upstream.url(), key));
        let (shim, nar) = (agent.shim, lone.path().nar());
        let whole: Vec<_> = (0..3)
            .map(|_| {
                let nar = nar.clone();
                thread::spawn(move || get(shim, &nar))
            })
            .collect();
        wait_for("a third of it", Duration::from_secs(20), || {
            let status = agent.status();
            let done = status["downloads"][0]["done"].as_u64();
            (done > Some(SIZE / 3)).then_some(())
        });
        // Late, from every kind of place.
        let late: Vec<_> = [1, 5_000_000, 2_500_000]
            .map(|from: usize| {
                let nar = nar.clone();
                let range = format!("bytes={from}-");
                let ask = move || request(shim, "GET", &nar, &[("Range", &range)]);
                (from, thread::spawn(ask))
            })
            .into();
        for reader in whole {
            assert!(reader.join().unwrap().body == lone.bytes);
        }
        for (from, reader) in late {
            let part = reader.join().unwrap();
            assert_eq!(part.status, 206);
            assert!(part.body == lone.bytes[from..], "from {from}");
        }
        assert_eq!(upstream.asked_for("/nar/"), 1);
        assert_eq!(agent.bytes("wasted"), 0);
        // What each of the six was sent, and all of it came from there.
        let left_out = 1 + 5_000_000 + 2_500_000;
        assert_eq!(agent.bytes("upstream"), 6 * lone.path().nar_size - left_out);
    }
}

#[test]
fn who_hangs_up_takes_nothing_from_the_others() {
    let Some(lone) = LoneNar::new("who_hangs_up_takes_nothing_from_the_others", SIZE) else {
        return;
    };
    let upstream = lone.upstream(|body| Answer::Drip(body, RATE));
    let agent = lone
        .stranger("agent")
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let agent = Node::start(&agent);
    let (shim, nar) = (agent.shim, lone.path().nar());
    let mut first = TcpStream::connect(shim).unwrap();
    write!(first, "GET {nar} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    first.read_exact(&mut vec![0; 1_000_000]).unwrap();
    let second = {
        let nar = nar.clone();
        thread::spawn(move || get(shim, &nar))
    };
    agent.wait("two readers", |status| {
        status["downloads"]
            .as_array()
            .is_some_and(|all| all.len() == 2)
    });
    drop(first);
    assert!(second.join().unwrap().body == lone.bytes);
    assert_eq!(upstream.asked_for("/nar/"), 1);

    // When the last one has hung up it ends: else most of it would have come in vain.
    upstream.forget();
    let mut lonely = TcpStream::connect(shim).unwrap();
    write!(lonely, "GET {nar} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    lonely.read_exact(&mut vec![0; 1_000_000]).unwrap();
    drop(lonely);
    agent.wait("an end", |status| {
        status["downloads"].as_array().is_some_and(Vec::is_empty)
    });
    assert!(agent.bytes("wasted") < SIZE / 2);
}
