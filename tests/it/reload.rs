//! A running node takes over a new configuration on SIGHUP, keeps the old one when the new one is refused, and gives
//! nothing from the moment on in which it is told so.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    path::Path,
    thread,
    time::Duration,
};

use ::narswarm::nix::PublicKey;
use data_encoding::HEXLOWER;

use crate::lab::{Channel, HttpServer, Node, get, narswarm};

fn spoil(file: &Path) {
    fs::write(file, "[swarm]\nshare = \"everybody\"\n").unwrap();
}

#[test]
fn a_new_configuration_is_taken_over() {
    let Some(channel) = Channel::small("a_new_configuration_is_taken_over", &[]) else {
        return;
    };
    let upstream = HttpServer::directory(&channel.scratch.directory("upstream"));
    let (empty, path) = (channel.stranger("agent"), channel.closure.top().narinfo());
    let node = Node::start(&empty);
    assert_eq!(get(node.shim, &path).status, 404);

    // A channel and an upstream more.
    let url = format!("{}/", upstream.url().trim_end_matches('/'));
    let key = &channel.publication.keys.narinfo;
    let full = empty
        .clone()
        .follow(&channel.publication)
        .upstream(&url, key);
    let file = full.write();
    node.hang_up();
    let status = node.wait_for_channel();
    assert_eq!(status["upstreams"][0]["url"], url.as_str());
    assert_eq!(get(node.shim, &path).status, 200);

    // A file that is refused changes nothing.
    spoil(&file);
    node.hang_up();
    let status = node.wait("refusal", |status| !status["config"]["error"].is_null());
    let error = status["config"]["error"].as_str().unwrap();
    assert!(error.contains("swarm.share"), "{error}");
    assert_eq!(status["channels"][0]["state"], "ok");
    assert_eq!(get(node.shim, &path).status, 200);
    let state = node.state().to_str().unwrap();
    let page = narswarm(["status", "--state", state]).success().stdout;
    assert!(page.contains("the configuration is refused"), "{page}");

    // Neither does one with a channel that cannot be kept: not even its upstreams count.
    let key: PublicKey = channel.publication.keys.channel.parse().unwrap();
    let shelf = format!("channels/blocked-{}", HEXLOWER.encode(&key.bytes()[..4]));
    fs::write(node.state().join(shelf), "in the way").unwrap();
    let blocked = full.clone();
    blocked
        .channel("blocked", &key.to_string(), "/nowhere")
        .upstream("http://127.0.0.1:9/", &channel.publication.keys.narinfo)
        .write();
    node.hang_up();
    let status = node.wait("another refusal", |status| {
        let error = status["config"]["error"].as_str();
        error.is_some_and(|error| error.contains("blocked"))
    });
    assert_eq!(status["upstreams"].as_array().unwrap().len(), 1);

    // What needs a restart is named; the rest of the same file counts.
    let port = "[shim]\nlisten = \"127.0.0.1:";
    let text = fs::read_to_string(empty.write()).unwrap();
    assert!(text.contains(&format!("{port}0")));
    fs::write(
        &file,
        text.replace(&format!("{port}0"), &format!("{port}1")),
    )
    .unwrap();
    node.hang_up();
    let status = node.wait("taking over", |status| status["config"]["error"].is_null());
    assert_eq!(status["config"]["needs_restart"][0], "shim.listen");
    assert_eq!(status["channels"].as_array().unwrap().len(), 0);
    assert_eq!(status["upstreams"].as_array().unwrap().len(), 0);
    assert_eq!(get(node.shim, &path).status, 404);
    node.stop();
}

#[test]
fn share_off_ends_uploads_and_stays() {
    let Some(channel) = Channel::small("share_off_ends_uploads_and_stays", &[]) else {
        return;
    };
    // Slow enough to be in the middle of it.
    let origin_config = channel.seedbox("origin").upload_limit("300kB/s");
    let origin = Node::start(&origin_config);
    let state = origin.state().to_str().unwrap().to_owned();
    let share = |choice: &str| {
        narswarm(["share", choice, "--state", &state])
            .success()
            .stdout
    };
    let agent = |name: &str, peer| channel.agent(name).peer(peer);

    let slow = Node::start(&agent("slow", origin.peer));
    let nar = channel.closure.top().nar();
    let shim = slow.shim;
    let fetching = thread::spawn(move || {
        // It is cut off, whenever that is noticed.
        let mut stream = TcpStream::connect(shim).unwrap();
        let request = format!("GET {nar} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    origin.wait("upload", |status| status["bytes"]["uploaded"] != 0);
    let said = share("off");
    assert!(
        said.contains("share = off") && said.contains("configured is lan"),
        "{said}"
    );
    let status = origin.wait("end of uploads", |status| {
        status["swarm"]["uploading_to"] == 0
    });
    assert_eq!(status["share"], "off");
    let hung_up = TcpStream::connect(origin.peer).and_then(|mut stream| {
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.read(&mut [0])
    });
    let hung_up = hung_up.map_err(|error| error.kind());
    assert!(
        matches!(hung_up, Ok(0) | Err(ErrorKind::ConnectionReset)),
        "{hung_up:?}"
    );
    slow.kill();
    fetching.join().unwrap();

    // Also when the file says something else, is read again, is spoilt; and after a restart.
    spoil(&origin_config.file());
    origin.hang_up();
    let status = origin.wait("refusal", |status| !status["config"]["error"].is_null());
    assert_eq!(status["share"], "off");
    origin.stop();
    let origin = Node::start(&origin_config.clone().upload_limit("10GB/s"));
    assert_eq!(origin.status()["share"], "off");

    let said = share("configured");
    assert_eq!(said.trim(), "share = lan, as configured");
    let fast = Node::start(&agent("fast", origin.peer));
    fast.wait_for_channel();
    let response = fast.get(&channel.closure.top().nar());
    assert_eq!(response.body.len() as u64, channel.closure.top().nar_size);
    // Nobody runs: it counts from the next start on.
    origin.stop();
    assert!(share("public").contains("next start"));
    assert_eq!(Node::start(&origin_config).status()["share"], "public");
}
