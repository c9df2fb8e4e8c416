//! kill -9 at any moment of a download: the next start goes on, and nothing that it serves is wrong.

use std::{fs, thread, time::Duration};

use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

use crate::lab::{Answer, LoneNar, Node, NodeConfig, get};

const SIZE: u64 = 3_000_000;
const KILLS: u32 = 10;
/// Every other time, somewhere in the first tenths of a second: in the catalog, the info dict, the first or a later piece.
/// The other times when so much of the NAR is there, whatever time that takes.
const LATEST_MS: u64 = 250;

/// Kills `config` again and again in the middle of the NAR, then lets it end.
fn kill_again_and_again(lone: &LoneNar, config: &NodeConfig, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let mut begun = 0;
    for kill in 0..KILLS {
        let agent = Node::start(config);
        let (shim, nar) = (agent.shim, lone.path().nar());
        let reader = thread::spawn(move || std::panic::catch_unwind(|| get(shim, &nar)));
        if kill % 2 == 0 {
            thread::sleep(Duration::from_millis(random.random_range(0..LATEST_MS)));
        } else {
            let there = random.random_range(1..SIZE);
            agent.wait("a part of it", |status| {
                let done = status["downloads"][0]["done"].as_u64();
                done >= Some(there) || reader.is_finished()
            });
        }
        agent.kill();
        // An answer that had no head yet is none.
        if let Ok(nar) = reader.join().unwrap()
            && nar.status == 200
        {
            begun += 1;
            assert!(lone.bytes.starts_with(&nar.body), "kill {kill}");
        }
    }
    assert!(begun > 0, "seed {seed}: no NAR had begun");
    let agent = Node::start(config);
    lone.check(&agent);
    agent.wait_for_offer(1);
    let info_hash = lone.payload.info.info_hash();
    let cache = agent.state().join("cache");
    let kept = fs::read(cache.join(format!("{info_hash}.nar.zst"))).unwrap();
    assert!(kept == *lone.payload.bytes);
    assert_eq!(
        fs::read_dir(cache).unwrap().count(),
        1,
        "nothing else stays"
    );
}

#[test]
fn in_a_download_from_the_swarm() {
    let Some((lone, seedbox)) = LoneNar::seeded("in_a_download_from_the_swarm", SIZE, |seedbox| {
        seedbox.upload_limit("4MB/s")
    }) else {
        return;
    };
    kill_again_and_again(&lone, &lone.agent("agent").peer(seedbox.peer), 9);
    // Every piece that was finished is kept.
    let uploaded = seedbox.bytes("uploaded");
    assert!(uploaded < u64::from(KILLS) * SIZE, "{uploaded}");
}

#[test]
fn in_a_fetch_from_an_upstream() {
    let Some(lone) = LoneNar::new("in_a_fetch_from_an_upstream", SIZE) else {
        return;
    };
    let upstream = lone.upstream(|body| Answer::Drip(body, 8_000_000));
    let config = lone.agent("agent");
    let config = config.upstream(&upstream.url(), &lone.keys.narinfo);
    kill_again_and_again(&lone, &config, 10);
}
