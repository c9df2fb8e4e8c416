//! The state directory fills up or becomes read-only while an agent runs: Nix gets its bytes all the same, also after a
//! restart, the agent says what it cannot do, and keeps things again as soon as it can.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::lab::{LoneNar, Mount, Need, Node, wait_for};

const SIZE: u64 = 6_000_000;
/// Enough for a channel, the info dicts and what comes.
const ROOM: &str = "size=64m";
const TIMES: u64 = 3;

/// Breaks the state directory, and mends it with what `break_it` has returned.
fn broken<T>(test: &str, break_it: impl Fn(&Path) -> T, reason: &str) {
    if !Need::all(test, &[Need::Namespaces]) {
        return;
    }
    let Some(lone) = LoneNar::new(test, SIZE) else {
        return;
    };
    let upstream = lone.good_upstream();
    let config = lone
        .agent("agent")
        .upstream(&upstream.url(), &lone.keys.narinfo);
    let state = lone.scratch.directory("agent");
    let _room = Mount::tmpfs(&state, ROOM);
    let agent = Node::start(&config);
    agent.wait_for_channel();

    let damage = break_it(&state);
    for _ in 0..TIMES {
        lone.check(&agent);
    }
    assert_eq!(
        upstream.asked_for("/nar/"),
        TIMES as usize,
        "nothing is kept"
    );
    let status = agent.status();
    assert_eq!(status["bytes"]["upstream"], TIMES * lone.path().nar_size);
    let errors = status["errors"].to_string();
    let cache = state.join("cache");
    for part in [cache.to_str().unwrap(), reason] {
        assert!(errors.contains(part), "{part} in {errors}");
    }

    // It starts like this as well.
    agent.stop();
    let agent = Node::start(&config);
    lone.check(&agent);

    drop(damage);
    let shim = agent.shim.to_string();
    wait_for("run.json", Duration::from_secs(30), || {
        let text = fs::read_to_string(state.join("run.json"));
        text.is_ok_and(|text| text.contains(&shim)).then_some(())
    });
    lone.check(&agent);
    agent.wait_for_offer(1);
    let asked = upstream.asked_for("/nar/");
    lone.check(&agent);
    assert_eq!(upstream.asked_for("/nar/"), asked, "now it is kept");
    agent.stop();
}

/// Removed when dropped.
struct Ballast(PathBuf);

const BALLAST: &str = "ballast";

impl Ballast {
    fn fill(directory: &Path) -> Self {
        let ballast = Self(directory.join(BALLAST));
        let mut file = File::create(&ballast.0).unwrap();
        for size in [65536, 512, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
        ballast
    }
}

impl Drop for Ballast {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

#[test]
fn a_full_state_directory_costs_only_what_could_be_kept() {
    let test = "a_full_state_directory_costs_only_what_could_be_kept";
    broken(test, Ballast::fill, "No space left");
}

#[test]
fn a_read_only_state_directory_costs_only_what_could_be_kept() {
    let test = "a_read_only_state_directory_costs_only_what_could_be_kept";
    broken(test, Mount::read_only, "Read-only file system");
}
