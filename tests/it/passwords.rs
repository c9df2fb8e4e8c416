//! An upstream that wants a password has it from netrc, and nobody else has it.

use std::fs;

use crate::lab::{Answer, HttpServer, LoneNar, Node, NodeConfig, Scratch, get, narswarm};

/// `me:secret`.
const BASIC: &str = "authorization: Basic bWU6c2VjcmV0";
const KEY: &str = "lab-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";

#[test]
fn netrc_is_used_for_its_machine() {
    let Some(lone) = LoneNar::new("netrc_is_used_for_its_machine", 100_000) else {
        return;
    };
    let netrc = lone.scratch.path("netrc");
    for (name, text, asked) in [
        ("its", "machine 127.0.0.1 login me password secret", true),
        ("default", "default login me password secret", true),
        (
            "other",
            "machine cache.example login me password secret",
            false,
        ),
    ] {
        fs::write(&netrc, text).unwrap();
        let upstream = lone.good_upstream();
        let agent = lone.stranger(name).netrc(&netrc);
        let agent = Node::start(&agent.upstream(&upstream.url(), &lone.keys.narinfo));
        assert_eq!(get(agent.shim, &lone.path().narinfo()).status, 200);
        lone.check(&agent);
        let with = if asked { upstream.asked().len() } else { 0 };
        assert_eq!(upstream.asked_with(BASIC), with, "{name}");
    }
}

#[test]
fn a_password_in_the_url_is_not_shown() {
    let Some(lone) = LoneNar::new("a_password_in_the_url_is_not_shown", 100_000) else {
        return;
    };
    let upstream = lone.good_upstream();
    let url = upstream.url().replace("http://", "http://me:secret@");
    let agent = Node::start(&lone.stranger("agent").upstream(&url, &lone.keys.narinfo));
    lone.check(&agent);
    assert_eq!(upstream.asked_with(BASIC), upstream.asked().len());
    assert!(!agent.status().to_string().contains("secret"));
}

#[test]
fn what_cannot_be_asked_or_read_is_named() {
    let scratch = Scratch::new();
    let file = scratch.path("agent.toml");
    let missing = scratch.path("no-netrc");
    let text = format!(
        "netrc = {missing:?}\n[[upstream]]\nurl = \"s3://bucket?region=eu-west-1\"\n[[upstream]]\nurl = \"http://127.0.0.1:9\"\n"
    );
    fs::write(&file, text).unwrap();
    let checked = narswarm(["check-config", file.to_str().unwrap()]).success();
    for words in [
        "s3://bucket",
        "leave it in nix.conf",
        "no-netrc",
        "1 upstream,",
    ] {
        assert!(checked.stdout.contains(words), "{}", checked.stdout);
    }
    fs::write(&missing, "machine a login b passwort secret").unwrap();
    let checked = narswarm(["check-config", file.to_str().unwrap()]).success();
    assert!(checked.stdout.contains("'passwort'"), "{}", checked.stdout);
    assert!(!checked.stdout.contains("secret"), "{}", checked.stdout);
}

/// Nix asks for the NAR of a cache where the narinfo says, which may be elsewhere.
#[test]
fn another_host_is_not_told_the_password() {
    let Some(lone) = LoneNar::new("another_host_is_not_told_the_password", 100_000) else {
        return;
    };
    let elsewhere = lone.good_upstream();
    let narinfo = {
        let plain = lone.path().narinfo();
        let agent = lone.good_upstream();
        let address = agent.url().trim_start_matches("http://").parse().unwrap();
        let text = get(address, &plain).text().to_owned();
        text.replace("URL: nar/", &format!("URL: {}/nar/", elsewhere.url()))
    };
    let upstream = HttpServer::start(move |path| match path.ends_with(".narinfo") {
        true => Answer::Body(narinfo.clone().into_bytes()),
        false => Answer::Status(404),
    });
    let netrc = lone.scratch.path("netrc");
    fs::write(&netrc, "default login me password secret").unwrap();
    let agent = lone.stranger("agent").netrc(&netrc);
    let agent = Node::start(&agent.upstream(&upstream.url(), &lone.keys.narinfo));
    lone.check(&agent);
    assert!(upstream.asked_with(BASIC) > 0);
    assert_eq!(elsewhere.asked_with(BASIC), 0);
    assert_eq!(elsewhere.asked_for("/nar/"), 1);
}

/// What lies beside a cache on its server is not this machine's to read out to whoever asks.
#[test]
fn no_path_leads_out_of_the_cache() {
    let scratch = Scratch::new();
    let upstream = HttpServer::start(|_| Answer::Body(b"a secret".to_vec()));
    let netrc = scratch.path("netrc");
    fs::write(&netrc, "default login me password secret").unwrap();
    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store")).netrc(&netrc);
    let agent = Node::start(&agent.upstream(&format!("{}/cache", upstream.url()), KEY));
    for path in [
        "/log/%2e%2e/%2e%2e/other/secret",
        "/log/.%2E/%2e./other/secret",
        "/log/..\\..\\other\\secret",
        "/log/..%2f..%2fother%2fsecret",
        "/log/..%5c..%5cother%5csecret",
        "/realisations/%2e%2e/%2e%2e/other/secret",
        "/debuginfo/../../other/secret",
    ] {
        assert_eq!(get(agent.shim, path).status, 404, "{path}");
    }
    assert_eq!(upstream.asked(), Vec::<String>::new());
    assert_eq!(get(agent.shim, "/log/x..y.drv").body, b"a secret");
    assert_eq!(upstream.asked(), ["GET /cache/log/x..y.drv"]);
    assert_eq!(upstream.asked_with(BASIC), 1);
}
