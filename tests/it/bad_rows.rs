//! A row counts only with a signature that Nix would accept, and a channel that lies cannot hide one that does not.

use crate::lab::{
    Channel, Closure, Forgery, Keys, LoneNar, Node, NodeConfig, Publication, Release, Scratch, get,
    narswarm,
};

#[test]
fn rows_without_a_trusted_signature_are_not_served() {
    let test = "rows_without_a_trusted_signature_are_not_served";
    let Some(channel) = Channel::small(test, &[]) else {
        return;
    };
    let (scratch, closure) = (&channel.scratch, channel.closure);
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    // A key of the same name, and one of another.
    let stranger = Keys::make(&channel.nix, &scratch.path("stranger")).narinfo;
    let other = stranger.replace("lab-narinfo-1", "other-1");
    for (name, trusted) in [
        ("stranger", Some(&stranger)),
        ("other", Some(&other)),
        ("nobody", None),
    ] {
        let agent = NodeConfig::agent(
            scratch.path(&format!("agent-{name}")),
            &scratch.path("store"),
        );
        let agent = agent.follow(&channel.publication).peer(seedbox.peer);
        let config = trusted.iter().fold(agent, |agent, key| agent.trust(key));
        let agent = Node::start(&config);
        assert_eq!(
            get(agent.shim, &closure.top().narinfo()).status,
            404,
            "{name}"
        );
        assert_eq!(get(agent.shim, &closure.top().nar()).status, 404, "{name}");
        let status = agent.status();
        let errors = status["errors"].to_string();
        assert!(
            errors.contains(closure.top().base_name()) && errors.contains("trusted_keys"),
            "{status}"
        );
        assert_eq!(status["channels"][0]["state"], "ok");
        assert_eq!(status["bytes"]["swarm"], 0);
        let to = scratch.path("fetched");
        let config = config.file();
        let arguments = [
            "fetch",
            &closure.top,
            "--to",
            to.to_str().unwrap(),
            "--config",
            config.to_str().unwrap(),
        ];
        narswarm(arguments).exits(4);
    }
}

/// No signature covers it, and Nix would refuse the path for it.
#[test]
fn a_forged_content_address_is_not_passed_on() {
    let Some(lone) = LoneNar::new("a_forged_content_address_is_not_passed_on", 100_000) else {
        return;
    };
    let publication = &lone.publication;
    let narinfo = |name: &str| {
        let agent = Node::start(&lone.agent(name));
        agent.wait_for_channel();
        let answer = get(agent.shim, &lone.path().narinfo());
        assert_eq!(answer.status, 200);
        answer.text().to_owned()
    };
    // The real one is.
    assert!(narinfo("before").contains("\nCA: fixed:r:sha256:"));
    let forgery = Forgery {
        directory: publication.out.clone(),
    };
    forgery.change_rows(&publication.keys.channel_secret, |rows| {
        for row in rows {
            row.ca = Some(format!("fixed:r:sha256:{}", "0".repeat(52)));
        }
    });
    let forged = narinfo("after");
    assert!(!forged.contains("CA:"), "{forged}");
}

/// The channel `lab` of another publisher, who says that the payloads of two paths are each other's.
fn liar(closure: &Closure, keys: &Keys, scratch: &Scratch) -> Publication {
    let publication = Release::of(closure, keys, scratch.path("liar")).publish();
    let forgery = Forgery {
        directory: publication.out.clone(),
    };
    forgery.change_rows(&keys.channel_secret, |rows| {
        let top = rows
            .iter()
            .position(|row| row.nar_hash == closure.top().nar_hash)
            .unwrap();
        let other = (top + 1) % rows.len();
        let (length, info_hash) = (rows[top].payload_length, rows[top].info_hash);
        (rows[top].payload_length, rows[top].info_hash) =
            (rows[other].payload_length, rows[other].info_hash);
        (rows[other].payload_length, rows[other].info_hash) = (length, info_hash);
    });
    publication
}

#[test]
fn a_lying_channel_cannot_hide_an_honest_one() {
    let Some(channel) = Channel::small("a_lying_channel_cannot_hide_an_honest_one", &[]) else {
        return;
    };
    let (nix, scratch, closure) = (&channel.nix, &channel.scratch, channel.closure);
    let honest = &channel.publication;
    // Both sign paths with the same key, as the same upstream would have.
    let liar_keys = Keys {
        narinfo_secret: honest.keys.narinfo_secret.clone(),
        ..Keys::make(nix, &scratch.path("liar-keys"))
    };
    let liar = liar(closure, &liar_keys, scratch);
    let seedbox = Node::start(&channel.seedbox("seedbox"));
    seedbox.wait_for_offer(closure.paths.len());
    for (name, channels) in [
        ("liar-first", [&liar, honest]),
        ("liar-last", [honest, &liar]),
    ] {
        let agent = channel.stranger(name).peer(seedbox.peer);
        let agent = Node::start(
            &channels
                .iter()
                .fold(agent, |agent, channel| agent.follow(channel)),
        );
        agent.wait("two channels", |status| {
            status["channels"][1]["state"] == "ok"
        });
        // What is cut off is asked for again, as Nix does.
        let top = closure.top();
        assert_eq!(get(agent.shim, &top.narinfo()).status, 200, "{name}");
        let answers: Vec<_> = (0..3).map(|_| get(agent.shim, &top.nar())).collect();
        let statuses: Vec<_> = answers
            .iter()
            .map(|answer| (answer.status, answer.body.len()))
            .collect();
        let whole = answers
            .iter()
            .find(|answer| answer.body.len() as u64 == top.nar_size);
        let whole =
            whole.unwrap_or_else(|| panic!("{name}: {statuses:?}, {}", agent.status()["errors"]));
        assert_eq!(whole.body, nix.dump(&closure.root, &closure.top), "{name}");
    }
}
