use futures_util::FutureExt;

use super::*;
use crate::swarm::networks::is_private;

const PIECES: u32 = 100;

struct Scene {
    crowd: Crowd,
    now: Instant,
    lines: u64,
}

impl Scene {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            crowd: Crowd::new(PIECES, 0),
            now,
            lines: 0,
        }
    }

    fn wake(&self, line: u64) -> Arc<Notify> {
        let mut lines = self.crowd.members.values().flat_map(|m| &m.lines);
        lines
            .find(|(number, _)| **number == line)
            .unwrap()
            .1
            .wake
            .clone()
    }

    fn join(&mut self, i: u8) -> (Who, u64, Option<Bitfield>) {
        self.join_beside(i, 0)
    }

    fn join_beside(&mut self, i: u8, holders: usize) -> (Who, u64, Option<Bitfield>) {
        self.join_from([10, 0, 0, i], holders)
    }

    fn join_from(&mut self, ip: [u8; 4], holders: usize) -> (Who, u64, Option<Bitfield>) {
        self.lines += 1;
        let who = (IpAddr::from(ip), PeerId::random());
        let joining = Joining {
            machine: who.0,
            near: is_private(who.0),
            whole: true,
            holders,
            companion: false,
            patient: true,
        };
        let seen = self.crowd.join(who, self.lines, joining, Arc::default());
        (who, self.lines, seen)
    }
}

fn ones(bits: Option<Bitfield>) -> Vec<u32> {
    let bits = bits.unwrap();
    (0..PIECES).filter(|i| bits.get(*i)).collect()
}

#[test]
fn a_single_downloader_never_waits() {
    let mut scene = Scene::new();
    let (who, line, seen) = scene.join(1);
    assert_eq!(ones(seen), (0..ALONE as u32).collect::<Vec<_>>());
    for piece in 0..PIECES {
        scene.crowd.sent(who, piece);
        let expected = piece + ALONE as u32;
        let shown = scene.crowd.news(who, line, scene.now).shown;
        assert_eq!(
            shown,
            (expected < PIECES).then_some(expected).as_slice(),
            "in order, one for one"
        );
    }
    assert!(!scene.crowd.hides(who));
}

#[test]
fn a_crowd_sees_different_pieces_and_more_when_they_have_spread() {
    let mut scene = Scene::new();
    let (first, _, _) = scene.join(1);
    let (second, line, seen) = scene.join(2);
    let (third, third_line, other) = scene.join(3);
    let (seen, other) = (ones(seen), ones(other));
    assert_eq!((seen.len(), other.len()), (FEW, FEW));
    assert!(
        seen.iter()
            .all(|piece| !other.contains(piece) && *piece >= ALONE as u32)
    );
    // It was sent, but nobody else has it.
    scene.crowd.sent(second, seen[0]);
    scene.crowd.has(second, [seen[0]]);
    assert!(scene.crowd.news(second, line, scene.now).shown.is_empty());
    scene.crowd.has(third, [seen[0]]);
    assert_eq!(scene.crowd.news(second, line, scene.now).shown.len(), 1);
    assert!(
        scene
            .crowd
            .news(third, third_line, scene.now)
            .shown
            .is_empty()
    );
    assert!(!scene.crowd.leave(first, 1));
    assert!(!scene.crowd.leave(second, line));
    assert!(scene.crowd.leave(third, third_line));
    // Whatever it had or saw counts no more.
    assert_eq!(scene.crowd.rarity, Rarity::new(PIECES, 0));
}

#[test]
fn of_few_pieces_none_is_shown_to_many() {
    let mut scene = Scene::new();
    scene.crowd = Crowd::new(4, 0);
    let seen = [1, 2, 3, 4, 5].map(|i| scene.join(i));
    let counts = seen
        .each_ref()
        .map(|(_, _, seen)| seen.as_ref().unwrap().ones());
    assert_eq!(counts, [4, 3, 1, 1, 1], "nobody sees nothing");
    // The others come from those that were shown them, or after a while from here.
    let (who, line, seen) = &seen[4];
    scene.crowd.has(
        *who,
        (0..4).filter(|piece| seen.as_ref().unwrap().get(*piece)),
    );
    scene.crowd.waited(*who);
    assert_eq!(scene.crowd.news(*who, *line, scene.now).shown.len(), 3);
}

#[test]
fn one_that_has_all_it_sees_and_waits_sees_more_until_its_pieces_spread() {
    let mut scene = Scene::new();
    let (other, _, _) = scene.join(1);
    let (who, line, seen) = scene.join(2);
    let mut seen = ones(seen);
    scene.crowd.waited(who);
    assert!(scene.crowd.news(who, line, scene.now).shown.is_empty());
    for expected in [2 * FEW, 4 * FEW] {
        scene.crowd.has(who, seen.iter().copied());
        scene.crowd.waited(who);
        seen = scene.crowd.news(who, line, scene.now).shown;
        assert_eq!(seen.len(), expected);
    }
    scene.crowd.has(other, seen.iter().copied());
    assert_eq!(scene.crowd.members[&who].window, FEW);
}

#[test]
fn one_that_does_not_ask_for_what_it_sees_is_shown_something_else() {
    let mut scene = Scene::new();
    scene.join(1);
    let (who, line, _) = scene.join(2);
    for _ in 0..VAIN_WAITS {
        assert!(scene.crowd.news(who, line, scene.now).shown.is_empty());
        scene.crowd.waited(who);
    }
    assert_eq!(scene.crowd.news(who, line, scene.now).shown.len(), FEW);
}

#[test]
fn nobody_outside_is_told_of_those_on_the_lan() {
    let mut scene = Scene::new();
    let (near, near_line, _) = scene.join(1);
    let (far, far_line, _) = scene.join_from([203, 0, 113, 1], 0);
    scene.crowd.introduce(near, near_line, Some(1), true, true);
    scene.crowd.introduce(far, far_line, Some(2), true, true);
    assert_eq!(scene.crowd.news(far, far_line, scene.now).peers, []);
    let far_address = SocketAddr::new(far.0, 2);
    let told = scene.crowd.news(near, near_line, scene.now).peers;
    assert_eq!(told, [far_address]);
}

#[test]
fn peers_are_told_of_each_other_strangers_once_a_minute() {
    let mut scene = Scene::new();
    let (a, a_line, _) = scene.join(1);
    let (b, b_line, _) = scene.join(2);
    let (c, _, _) = scene.join(3);
    scene.crowd.introduce(a, a_line, Some(1), true, true);
    scene.crowd.introduce(b, b_line, Some(2), true, false);
    let at = |who: Who, port| SocketAddr::new(who.0, port);
    assert_eq!(scene.crowd.news(a, a_line, scene.now).peers, [at(b, 2)]);
    assert_eq!(scene.crowd.news(b, b_line, scene.now).peers, [at(a, 1)]);
    scene.crowd.introduce(c, 3, Some(3), false, true);
    assert_eq!(scene.crowd.news(a, a_line, scene.now).peers, [at(c, 3)]);
    assert_eq!(scene.crowd.news(b, b_line, scene.now).peers, []);
    scene.now += STRANGERS_PEX_INTERVAL;
    assert_eq!(scene.crowd.news(b, b_line, scene.now).peers, [at(c, 3)]);
    assert_eq!(scene.crowd.addresses().count(), 3);
}

#[test]
fn newcomers_see_everything_when_enough_others_have_it() {
    let mut scene = Scene::new();
    for i in 0..ENOUGH_SEEDS as u8 {
        let (who, _, seen) = scene.join(i);
        assert!(seen.is_some());
        scene.crowd.has(who, 0..PIECES);
    }
    assert_eq!(scene.join(9).2, None);
}

#[test]
fn nobody_is_kept_waiting_when_others_are_said_to_have_it() {
    let mut scene = Scene::new();
    assert!(scene.join_beside(1, ENOUGH_SEEDS - 1).2.is_some());
    assert_eq!(scene.join_beside(2, ENOUGH_SEEDS).2, None);
}

#[test]
fn one_machine_with_many_peer_ids_is_one_seed_and_wakes_nobody_for_nothing() {
    let mut scene = Scene::new();
    for _ in 0..1000 {
        let (who, line, _) = scene.join(1);
        scene.crowd.has(who, 0..PIECES);
        scene.crowd.leave(who, line);
        assert_eq!(scene.crowd.seeds.len(), 1);
    }
    let (who, line, seen) = scene.join(2);
    assert!(seen.is_some(), "paced as before");
    scene.crowd.introduce(who, line, Some(1), true, true);
    let (_, other, _) = scene.join(3);
    let wake = scene.wake(other);
    let woken = || wake.notified().now_or_never().is_some();
    woken();
    scene.crowd.introduce(who, line, Some(2), true, true);
    assert!(!woken());
    let (third, line, _) = scene.join(4);
    scene.crowd.introduce(third, line, Some(1), false, true);
    assert!(woken());
}
