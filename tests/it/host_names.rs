//! On loopback the shim answers to addresses and `localhost` only: a web page reaches it by a name of its own making.

use std::{
    io::{Read as _, Write as _},
    net::{Ipv4Addr, TcpStream},
};

use crate::lab::{Node, NodeConfig, Scratch, request};

const PATHS: [&str; 5] = [
    "/nix-cache-info",
    "/status.json",
    "/metrics",
    "/log/x.drv",
    "/nothing",
];

fn agent(scratch: &Scratch) -> NodeConfig {
    NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
}

#[test]
fn another_name_is_refused_on_loopback() {
    let scratch = Scratch::new();
    let agent = Node::start(&agent(&scratch));
    let port = agent.shim.port();
    let asked = |host: &str, path| request(agent.shim, "GET", path, &[("Host", host)]);
    for path in PATHS {
        for host in ["evil.example".to_owned(), format!("evil.example:{port}")] {
            let refused = asked(&host, path);
            assert_eq!(refused.status, 403, "{host} {path}");
            let body = refused.text();
            assert!(body.contains("substituters = http://127.0.0.1:"), "{body}");
        }
    }
    for host in [
        format!("127.0.0.1:{port}"),
        format!("localhost:{port}"),
        format!("[::1]:{port}"),
        "localhost".to_owned(),
    ] {
        assert_eq!(asked(&host, "/nix-cache-info").status, 200, "{host}");
        assert_eq!(asked(&host, "/status.json").status, 200, "{host}");
        assert_eq!(asked(&host, "/nothing").status, 404, "{host}");
    }

    let mut old = TcpStream::connect(agent.shim).unwrap();
    write!(old, "GET /nix-cache-info HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    old.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("StoreDir: /nix/store"), "{answer}");
}

/// Whoever serves a network is named by that network.
#[test]
fn any_name_will_do_elsewhere() {
    let scratch = Scratch::new();
    let everywhere = (Ipv4Addr::UNSPECIFIED, 0).into();
    let agent = Node::start(&agent(&scratch).shim(everywhere));
    let host = [("Host", "cache.lan:8642")];
    let info = request(agent.shim, "GET", "/nix-cache-info", &host);
    assert_eq!(info.status, 200);
}
