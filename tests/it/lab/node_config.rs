//! agent.toml and seedbox.toml of a test: free ports, no discovery, no limit unless asked for.

use std::{
    fmt::Write as _,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use super::{Clock, Publication};

#[derive(Clone)]
pub struct NodeConfig {
    pub role: &'static str,
    pub state: PathBuf,
    pub clock: Clock,
    /// Top-level keys and whole sections, in the order of TOML.
    trusted: Vec<String>,
    netrc: String,
    sections: String,
    upload_limit: String,
    peer_upload_limit: String,
    connections: usize,
    listen: SocketAddr,
    share: &'static str,
    discovery: String,
    peers: Vec<String>,
    trackers: Vec<String>,
    channels: String,
}

impl NodeConfig {
    /// An agent with the chroot store at `store`, which need not be there yet.
    pub fn agent(state: PathBuf, store: &Path) -> Self {
        let sections = format!(
            "[shim]\nlisten = \"127.0.0.1:0\"\n[store]\nuri = \"{}\"\n",
            store.display()
        );
        Self::new("agent", state, sections)
    }

    /// A seedbox that holds the chroot store at `location`.
    pub fn store_seedbox(state: PathBuf, location: &Path) -> Self {
        let sections = format!(
            "[hold]\nsource = \"store\"\nlocation = \"{}\"\n",
            location.display()
        );
        Self::new("seedbox", state, sections)
    }

    /// A seedbox that holds payload files in `location`.
    pub fn payload_seedbox(state: PathBuf, location: &Path) -> Self {
        let sections = format!("[hold]\nlocation = \"{}\"\n", location.display());
        Self::new("seedbox", state, sections)
    }

    fn new(role: &'static str, state: PathBuf, sections: String) -> Self {
        Self {
            role,
            state,
            clock: Clock::Right,
            trusted: vec![],
            netrc: String::new(),
            sections,
            upload_limit: "10GB/s".to_owned(),
            peer_upload_limit: String::new(),
            connections: 1024,
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            share: "lan",
            discovery: "dht = false\nlsd = false\n".to_owned(),
            peers: vec![],
            trackers: vec![],
            channels: String::new(),
        }
    }

    /// On a machine whose clock is wrong.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    pub fn listen(mut self, address: IpAddr) -> Self {
        self.listen.set_ip(address);
        self
    }

    /// `share` as in the file.
    pub fn share(mut self, share: &'static str) -> Self {
        self.share = share;
        self
    }

    pub fn port(mut self, port: u16) -> Self {
        self.listen.set_port(port);
        self
    }

    /// Takes part in the DHT that these nodes make up.
    pub fn dht(mut self, bootstrap: &[SocketAddr]) -> Self {
        let bootstrap: Vec<_> = bootstrap.iter().map(|node| format!("\"{node}\"")).collect();
        let bootstrap = bootstrap.join(", ");
        self.discovery = format!("dht = true\nbootstrap = [{bootstrap}]\nlsd = false\n");
        self
    }

    /// Finds the others by multicast, and in no other way.
    pub fn lsd(mut self) -> Self {
        self.discovery = "dht = false\nlsd = true\n".to_owned();
        self
    }

    /// Asks its router to forward the peer port.
    pub fn upnp(mut self) -> Self {
        self.discovery += "upnp = true\n";
        self
    }

    /// Where Nix asks.
    pub fn shim(mut self, listen: SocketAddr) -> Self {
        let listen = format!("[shim]\nlisten = \"{listen}\"\n");
        let default = "[shim]\nlisten = \"127.0.0.1:0\"\n";
        self.sections = self.sections.replace(default, &listen);
        self
    }

    /// Serves release files to Nix.
    pub fn expressions(mut self) -> Self {
        let shim = "[shim]\n";
        self.sections = self.sections.replace(shim, "[shim]\nexpressions = true\n");
        self
    }

    pub fn upload_limit(mut self, rate: &str) -> Self {
        self.upload_limit = rate.to_owned();
        self
    }

    /// The limit of each address.
    pub fn peer_upload_limit(mut self, rate: &str) -> Self {
        self.peer_upload_limit = format!("peer_upload_limit = \"{rate}\"\n");
        self
    }

    /// An upload limit for these hours.
    pub fn schedule(mut self, from: &str, to: &str, rate: &str) -> Self {
        writeln!(
            self.sections,
            "[[swarm.schedule]]\nfrom = \"{from}\"\nto = \"{to}\"\nupload_limit = \"{rate}\""
        )
        .unwrap();
        self
    }

    /// Connections that its port takes.
    pub fn connections(mut self, count: usize) -> Self {
        self.connections = count;
        self
    }

    pub fn netrc(mut self, file: &Path) -> Self {
        self.netrc = format!("netrc = \"{}\"\n", file.display());
        self
    }

    pub fn cache_size(mut self, size: &str) -> Self {
        writeln!(self.sections, "[cache]\nsize = \"{size}\"").unwrap();
        self
    }

    pub fn peer(mut self, peer: SocketAddr) -> Self {
        self.peers.push(format!("\"{peer}\""));
        self
    }

    pub fn tracker(mut self, url: &str) -> Self {
        self.trackers.push(format!("\"{url}\""));
        self
    }

    pub fn trust(mut self, key: &str) -> Self {
        self.trusted.push(format!("\"{key}\""));
        self
    }

    /// Follows the channel of `publication`, in its directory.
    pub fn follow(self, publication: &Publication) -> Self {
        let directory = publication.out.display().to_string();
        self.follow_at(publication, &directory)
    }

    /// The same, its manifest from somewhere else.
    pub fn follow_at(self, publication: &Publication, manifest: &str) -> Self {
        self.channel(&publication.channel, &publication.keys.channel, manifest)
    }

    pub fn channel(mut self, name: &str, key: &str, manifest: &str) -> Self {
        let channels = &mut self.channels;
        writeln!(
            channels,
            "[[channel]]\nname = \"{name}\"\nkey = \"{key}\"\nmanifest = \"{manifest}\""
        )
        .unwrap();
        self
    }

    /// Of the channel followed last, so many releases count.
    pub fn keep_releases(mut self, count: usize) -> Self {
        writeln!(self.channels, "keep_releases = {count}").unwrap();
        self
    }

    /// Follows a channel of which nothing but the link is known.
    pub fn link(mut self, link: &str) -> Self {
        writeln!(self.channels, "[[channel]]\nlink = \"{link}\"").unwrap();
        self
    }

    pub fn upstream(mut self, url: &str, key: &str) -> Self {
        writeln!(
            self.channels,
            "[[upstream]]\nurl = \"{url}\"\nkeys = [\"{key}\"]"
        )
        .unwrap();
        self
    }

    pub fn file(&self) -> PathBuf {
        self.state.with_extension("toml")
    }

    pub fn write(&self) -> PathBuf {
        let trusted = match self.role {
            "agent" => format!(
                "trusted_keys = [{}]\n{}",
                self.trusted.join(", "),
                self.netrc
            ),
            _ => String::new(),
        };
        let swarm = format!(
            "[swarm]
listen = \"{}\"
recreate_nice = 0
upload_limit = \"{}\"
connections = {}
peers = [{}]
trackers = [{}]
share = \"{}\"
{}{}",
            self.listen,
            self.upload_limit,
            self.connections,
            self.peers.join(", "),
            self.trackers.join(", "),
            self.share,
            self.peer_upload_limit,
            self.discovery,
        );
        let state = format!("state = \"{}\"\n", self.state.display());
        let text = [&state, &trusted, &swarm, &self.sections, &self.channels].map(String::as_str);
        fs::write(self.file(), text.concat()).unwrap();
        self.file()
    }
}
