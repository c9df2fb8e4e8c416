//! A clock that is years off takes nothing away: a machine that comes when the publisher is dead gets everything from the
//! others, and says what it thinks of the release's age.

use serde_json::Value;

use crate::lab::{Channel, Clock, Node};

struct Case {
    name: &'static str,
    clock: Clock,
    state: &'static str,
    /// What `doctor` finds, and what it says of it.
    finding: &'static str,
    says: &'static str,
}

const CASES: [Case; 2] = [
    Case {
        name: "ahead",
        clock: Clock::Off("+5y"),
        state: "stale",
        finding: "channel",
        says: "expired",
    },
    Case {
        name: "behind",
        clock: Clock::Off("-5y"),
        state: "ok",
        finding: "clock",
        says: "behind the newest release",
    },
];

#[test]
fn five_years_ahead_or_behind_everything_still_comes() {
    let name = "five_years_ahead_or_behind_everything_still_comes";
    let Some(channel) = Channel::small(name, &[Clock::NEED]) else {
        return;
    };
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    let other = Node::start(&channel.linked("other").peer(seedbox.peer));
    other.wait_for_channel();
    channel.fetch(&other);
    other.wait_for_offer(channel.closure.paths.len());
    seedbox.kill();

    for case in &CASES {
        let config = channel.linked(case.name).clock(case.clock);
        let late = Node::start(&config.peer(other.peer));
        let status = late.wait("release", |status| status["channels"][0]["sequence"] == 1);
        let state = &status["channels"][0]["state"];
        assert_eq!(state, case.state, "{}: {status}", case.name);
        channel.fetch_from_swarm(&late);
        let page = late.doctor();
        let says = |finding: &Value| {
            let found = finding["found"].as_str().unwrap_or_default();
            finding["name"] == case.finding
                && finding["state"] == "warn"
                && found.contains(case.says)
        };
        assert!(
            page["findings"].as_array().unwrap().iter().any(says),
            "{page}"
        );
    }
}
