//! Whatever an upstream does: right bytes from whoever else has them, a quick 404 or an honest cut, never a wrong whole.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::lab::{
    Answer, Hosts, HttpServer, LoneNar, Manner, Need, Node, NodeConfig, Scratch, ScriptedPeer, get,
};

const SIZE: u64 = 6_000_000;
/// 5 s is the promise for an upstream that gives no answer; the rest is for a busy machine.
const NO_ANSWER: Duration = Duration::from_secs(9);
/// A silent body is replaced after 2.5 s and fetched anew.
const REPLACED: Duration = Duration::from_secs(8);
/// A lone upstream that falls silent is given up after 15 s.
const GIVEN_UP: Duration = Duration::from_secs(22);

/// The first upstream is spoilt, the second one is good: the bytes come, in this time.
#[track_caller]
fn replaced(
    test: &str,
    worst: Duration,
    spoil: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static,
) {
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let (bad, good) = (lone.upstream(spoil), lone.good_upstream());
    let key = &lone.keys.narinfo;
    let agent = lone
        .stranger("agent")
        .upstream(&bad.url(), key)
        .upstream(&good.url(), key);
    let agent = Node::start(&agent);
    lone.check_within(&agent, worst);
    assert!(bad.asked_for("/nar/") > 0);
}

#[test]
fn one_that_drips_is_replaced() {
    replaced("one_that_drips_is_replaced", REPLACED, |body| {
        Answer::Drip(body, 20_000)
    });
}

#[test]
fn one_that_stalls_in_the_middle_is_replaced() {
    let test = "one_that_stalls_in_the_middle_is_replaced";
    replaced(test, REPLACED, |body| Answer::Stall(body, 3_000_000));
}

#[test]
fn one_that_says_nothing_is_replaced() {
    let test = "one_that_says_nothing_is_replaced";
    replaced(test, REPLACED, |_| Answer::Silence);
}

#[test]
fn one_that_answers_500_is_replaced() {
    let test = "one_that_answers_500_is_replaced";
    replaced(test, REPLACED, |_| Answer::Status(500));
}

#[test]
fn one_that_lost_the_nar_is_replaced() {
    let test = "one_that_lost_the_nar_is_replaced";
    replaced(test, REPLACED, |_| Answer::Status(404));
}

/// Nobody else has it: a 404 when nothing was sent, an honest cut after that.
#[track_caller]
fn alone(test: &str, worst: Duration, spoil: impl Fn(Vec<u8>) -> Answer + Send + Sync + 'static) {
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let bad = lone.upstream(spoil);
    let agent = lone
        .stranger("agent")
        .upstream(&bad.url(), &lone.keys.narinfo);
    let agent = Node::start(&agent);
    assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
    lone.check_failure(&agent, worst);
}

#[test]
fn one_that_drips_alone_is_given_up() {
    alone("one_that_drips_alone_is_given_up", GIVEN_UP, |body| {
        Answer::Drip(body, 500)
    });
}

#[test]
fn one_that_stalls_alone_is_given_up() {
    let test = "one_that_stalls_alone_is_given_up";
    alone(test, GIVEN_UP, |body| Answer::Stall(body, 3_000_000));
}

#[test]
fn one_that_says_nothing_alone_is_a_404() {
    let test = "one_that_says_nothing_alone_is_a_404";
    alone(test, NO_ANSWER, |_| Answer::Silence);
}

#[test]
fn one_that_answers_500_alone_is_a_404() {
    let test = "one_that_answers_500_alone_is_a_404";
    alone(test, NO_ANSWER, |_| Answer::Status(500));
}

#[test]
fn garbage_alone_is_never_whole() {
    let test = "garbage_alone_is_never_whole";
    alone(test, NO_ANSWER, |body| {
        Answer::Body(body.iter().map(|byte| byte ^ 0x55).collect())
    });
}

/// The line breaks again and again: the rest is asked for, and Nix notices nothing.
#[test]
fn one_that_cuts_is_asked_for_the_rest() {
    let Some(lone) = LoneNar::new("one_that_cuts_is_asked_for_the_rest", SIZE) else {
        return;
    };
    let cutting = lone.upstream(|body| Answer::CutRange(body, 2_000_000));
    let agent = lone
        .stranger("agent")
        .upstream(&cutting.url(), &lone.keys.narinfo);
    let agent = Node::start(&agent);
    lone.check(&agent);
    assert_eq!(cutting.asked_for("/nar/"), 4, "6 MB in parts of 2 MB");
    assert_eq!(agent.bytes("wasted"), 0);
}

/// The swarm has what the upstream begins and does not end.
#[test]
fn the_swarm_takes_over_from_an_upstream() {
    let Some(lone) = LoneNar::new("the_swarm_takes_over_from_an_upstream", SIZE) else {
        return;
    };
    let stalling = lone.upstream(|body| Answer::Stall(body, 3_000_000));
    let peer = ScriptedPeer::start(&lone.payload, Manner::Honest);
    let agent = lone
        .agent("agent")
        .upstream(&stalling.url(), &lone.keys.narinfo)
        .peer(peer.address);
    let agent = Node::start(&agent);
    // Nobody has shown anything yet, and nobody asks for the narinfo first: the upstream begins.
    lone.check_within(&agent, REPLACED);
    assert!(stalling.asked_for("/nar/") > 0 && peer.sent() > 0);
}

/// An upstream overtook it at the start: it is not forgotten when that one stalls.
#[test]
fn who_was_late_goes_on_when_the_winner_stalls() {
    let Some(lone) = LoneNar::new("who_was_late_goes_on_when_the_winner_stalls", SIZE) else {
        return;
    };
    let stalling = lone.upstream(|body| Answer::Stall(body, 3_000_000));
    let late = Manner::Late(Duration::from_secs(2));
    let peer = ScriptedPeer::start(&lone.payload, late);
    let agent = lone
        .agent("agent")
        .upstream(&stalling.url(), &lone.keys.narinfo)
        .peer(peer.address);
    let agent = Node::start(&agent);
    // The peer has shown the info dict by then: it is asked first.
    assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
    agent.wait("peer that answers", |s| s["swarm"]["reachable"] == 1);
    let nar = get(agent.shim, &lone.path().nar());
    assert!(nar.body == lone.bytes, "{} bytes", nar.body.len());
    assert!(stalling.asked_for("/nar/") > 0 && peer.sent() > 0);
    assert!(nar.elapsed < REPLACED, "{:?}", nar.elapsed);
}

#[test]
fn an_upstream_that_is_back_is_asked_again() {
    let Some(lone) = LoneNar::new("an_upstream_that_is_back_is_asked_again", 100_000) else {
        return;
    };
    let well = Arc::new(AtomicBool::new(false));
    let good = lone.good_upstream();
    let outage = HttpServer::start({
        let (well, url) = (well.clone(), good.url());
        move |path| match well.load(Relaxed) {
            false => Answer::Status(503),
            true => {
                let address = url.trim_start_matches("http://").parse().unwrap();
                let answer = get(address, path);
                match answer.status {
                    200 => Answer::Body(answer.body),
                    status => Answer::Status(status),
                }
            }
        }
    });
    let agent = lone
        .stranger("agent")
        .upstream(&outage.url(), &lone.keys.narinfo);
    let agent = Node::start(&agent);
    let narinfo = lone.path().narinfo();
    assert_eq!(get(agent.shim, &narinfo).status, 404);
    let status = agent.status();
    assert_eq!(status["upstreams"][0]["state"], "down");
    assert_eq!(status["refused_404"], 1);
    assert_eq!(status["refused"][0], lone.path().hash_part());
    let asked = outage.asked().len();
    assert_eq!(get(agent.shim, &narinfo).status, 404);
    assert_eq!(outage.asked().len(), asked, "it is left in peace");
    well.store(true, Relaxed);
    // Until the breaker's first pause of 15 s is over; the question that comes then is not refused any more.
    crate::lab::wait_for("narinfo", Duration::from_secs(30), || {
        (get(agent.shim, &narinfo).status == 200).then_some(())
    });
    lone.check(&agent);
    assert_eq!(agent.status()["upstreams"][0]["state"], "ok");
}

const UNKNOWN: &str = "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";

/// An answer that does not come while a NAR does: what else it has is not refused.
#[test]
fn one_whose_line_is_full_is_not_down() {
    // Ten seconds: twice the time in which an answer has to come.
    const RATE: u64 = SIZE / 10;
    let Some(lone) = LoneNar::new("one_whose_line_is_full_is_not_down", SIZE) else {
        return;
    };
    let cache = lone.cache.clone();
    let upstream = HttpServer::start(move |path| match (path, Answer::file(&cache, path)) {
        (UNKNOWN, _) => Answer::Silence,
        (path, Answer::Body(body)) if path.starts_with("/nar/") => Answer::Drip(body, RATE),
        (_, answer) => answer,
    });
    let config = lone.stranger("agent");
    let agent = Node::start(&config.upstream(&upstream.url(), &lone.keys.narinfo));
    let (shim, nar) = (agent.shim, lone.path().nar());
    let reader = std::thread::spawn(move || get(shim, &nar));
    agent.wait("a NAR under way", |status| {
        status["downloads"][0]["done"].as_u64() > Some(0)
    });
    assert_eq!(agent.get(UNKNOWN).status, 404);
    assert!(
        !reader.is_finished(),
        "the NAR should take longer than that"
    );
    assert_eq!(agent.status()["upstreams"][0]["state"], "ok");
    assert!(reader.join().unwrap().body == lone.bytes);
}

/// It begins each narinfo and does not end it: nobody waits for a second one.
#[test]
fn one_that_stalls_in_a_narinfo_is_down() {
    let Some(lone) = LoneNar::new("one_that_stalls_in_a_narinfo_is_down", 100_000) else {
        return;
    };
    let cache = lone.cache.clone();
    let upstream = HttpServer::start(move |path| match Answer::file(&cache, path) {
        Answer::Body(body) if path.ends_with(".narinfo") => Answer::Stall(body, 10),
        answer => answer,
    });
    let config = lone.stranger("agent");
    let agent = Node::start(&config.upstream(&upstream.url(), &lone.keys.narinfo));
    let first = agent.get(&lone.path().narinfo());
    assert_eq!(first.status, 404);
    assert!(first.elapsed < NO_ANSWER, "{:?}", first.elapsed);
    assert_eq!(agent.status()["upstreams"][0]["state"], "down");
    let asked = upstream.asked().len();
    assert_eq!(agent.get(UNKNOWN).status, 404);
    assert_eq!(upstream.asked().len(), asked, "it is left in peace");
}

/// Addresses that nobody answers from or nobody has, and a port where nobody listens.
#[test]
fn a_black_hole_costs_five_seconds_once() {
    let test = "a_black_hole_costs_five_seconds_once";
    if !Need::all(test, &[Need::Namespaces, Need::Program("nft")]) {
        return;
    }
    let (scratch, hosts) = (Scratch::new(), Hosts::new(2));
    hosts.swallow(2, "tcp dport 80");
    let key = "lab-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
    let path = "/zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz.narinfo";
    for (name, url, worst) in [
        ("hole", "http://10.77.0.99", NO_ANSWER),
        ("swallowed", "http://10.77.0.2", NO_ANSWER),
        ("closed", "http://10.77.0.1:9", Duration::from_secs(3)),
    ] {
        let agent = NodeConfig::agent(scratch.path(name), &scratch.path("store"));
        let agent = Node::start_in(&hosts.place(1), &agent.upstream(url, key));
        let first = agent.get(path);
        assert_eq!(first.status, 404, "{name}");
        assert!(first.elapsed < worst, "{name}: {:?}", first.elapsed);
        let second = agent.get(path);
        assert_eq!(second.status, 404, "{name}");
        assert!(second.elapsed < Duration::from_secs(1), "{name}");
        assert_eq!(agent.status()["refused_404"], 2, "{name}");
    }
}
