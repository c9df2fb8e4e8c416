//! Any BitTorrent client can fetch our payloads from our seeder, and we can fetch one that only such a client seeds.

use std::{fs, path::PathBuf, time::Duration};

use crate::lab::{
    Closure, Hosts, Need, Nix, Node, NodeConfig, Publication, Scratch, TorrentClient, Tracker,
    narswarm, wait_for,
};

const PORT: u16 = 51413;

/// A payload file and its torrent, as `narswarm payload` and `narswarm torrent` make them.
struct Payload {
    name: String,
    bytes: Vec<u8>,
    torrent: PathBuf,
    magnet: String,
}

impl Payload {
    fn make(closure: &Closure, scratch: &Scratch, tracker: &str) -> Self {
        let path = closure.root.join(closure.top.trim_start_matches('/'));
        let (file, torrent) = (scratch.path("payload"), scratch.path("payload.torrent"));
        let [path, to, torrent_to] = [&path, &file, &torrent].map(|path| path.to_str().unwrap());
        narswarm(["payload", path, "-o", to]).success();
        let made = narswarm(["torrent", path, "-o", torrent_to, "--tracker", tracker]).success();
        Self {
            name: format!("{}.nar.zst", closure.top().nar_hash.base32()),
            bytes: fs::read(file).unwrap(),
            torrent,
            magnet: made.stdout.trim().to_owned(),
        }
    }
}

/// Our seeder and a tracker on host 1.
fn client_downloads(test: &str, program: &'static str) {
    if !Need::all(test, &[Need::NIX, Need::Namespaces, Need::Program(program)]) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let hosts = Hosts::new(2);
    let publication = Publication::of(&nix, closure, scratch.root());
    let seeder = NodeConfig::store_seedbox(scratch.path("seedbox"), &closure.root);
    let seeder = seeder.listen(hosts.address(1)).follow(&publication);
    let seeder = Node::start_in(&hosts.place(1), &seeder);
    seeder.wait_for_offer(closure.paths.len());
    let tracker = Tracker::start(
        &hosts.place(1),
        hosts.address(1),
        &[seeder.peer],
        scratch.root(),
    );
    let payload = Payload::make(closure, &scratch, &tracker.url);
    assert!(
        payload.magnet.starts_with("magnet:?xt=urn:btih:"),
        "{}",
        payload.magnet
    );

    let directory = scratch.path("downloads");
    let place = hosts.place(2);
    let client = match program {
        "aria2c" => TorrentClient::aria2(&place, &payload.magnet, &directory),
        _ => TorrentClient::transmission(&place, &payload.magnet, &directory, PORT),
    };
    client.wait_for(&directory.join(&payload.name), &payload.bytes);
    assert!(seeder.bytes("uploaded") >= payload.bytes.len() as u64);
}

#[test]
fn aria2_downloads_by_magnet() {
    client_downloads("aria2_downloads_by_magnet", "aria2c");
}

#[test]
fn transmission_downloads_by_magnet() {
    client_downloads("transmission_downloads_by_magnet", "transmission-cli");
}

#[test]
fn the_agent_downloads_what_only_transmission_seeds() {
    let needs = [
        Need::NIX,
        Need::Namespaces,
        Need::Program("transmission-cli"),
    ];
    if !Need::all("the_agent_downloads_what_only_transmission_seeds", &needs) {
        return;
    }
    let (nix, scratch, closure) = (Nix::installed(), Scratch::new(), Closure::small());
    let hosts = Hosts::new(2);
    let publication = Publication::of(&nix, closure, scratch.root());
    let payload = Payload::make(closure, &scratch, "http://10.77.0.250/nobody");
    let directory = scratch.directory("seeds");
    fs::write(directory.join(&payload.name), &payload.bytes).unwrap();
    let torrent = payload.torrent.to_str().unwrap();
    let _transmission = TorrentClient::transmission(&hosts.place(1), torrent, &directory, PORT);

    let agent = NodeConfig::agent(scratch.path("agent"), &scratch.path("store"))
        .listen(hosts.address(2))
        .peer((hosts.address(1), PORT).into())
        .follow(&publication)
        .trust(&publication.keys.narinfo);
    let agent = Node::start_in(&hosts.place(2), &agent);
    // Until transmission has checked its file, nobody has it.
    let nar = wait_for("NAR from transmission", Duration::from_secs(60), || {
        Some(agent.get(&closure.top().nar())).filter(|response| response.status == 200)
    });
    assert_eq!(nar.body, nix.dump(&closure.root, &closure.top));
    assert_eq!(agent.bytes("swarm"), closure.top().nar_size);
    let kept = fs::read_dir(scratch.path("agent").join("cache")).unwrap();
    let kept: Vec<PathBuf> = kept.map(|file| file.unwrap().path()).collect();
    let [file] = &kept[..] else {
        panic!("{kept:?}")
    };
    assert_eq!(fs::read(file).unwrap(), payload.bytes);
}
