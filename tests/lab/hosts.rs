//! Hosts in network namespaces on one bridge, with nobody who would resolve a name. All of it goes away with the value.

#![allow(dead_code, reason = "each test file uses its part")]

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::Place;

const NETNS: &str = "/etc/netns";
/// Nobody has this address: a resolver that asks it waits until it gives up.
const NAMESERVER: &str = "nameserver 10.77.0.250\n";
/// Of the network namespace that writes to it.
const FORWARDS: &str = "/proc/sys/net/ipv4/ip_forward";
const FILTERS: &str = "/proc/sys/net/bridge/bridge-nf-call-iptables";
/// Before the id of the process that made a namespace.
const PREFIX: &str = "nsw-";

static NETWORKS: AtomicU32 = AtomicU32::new(0);

pub struct Hosts {
    name: String,
    count: u8,
    /// Hosts that have a machine behind them.
    behind: Vec<u8>,
}

/// How a machine behind a host is seen by the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// With the host's address: nobody can connect to it.
    Nat,
    /// With its own.
    Routed,
}

impl Hosts {
    /// Hosts 1 to `count`, with the addresses 10.77.0.1 and so on.
    pub fn new(count: u8) -> Self {
        let number = NETWORKS.fetch_add(1, Ordering::Relaxed);
        if number == 0 {
            sweep();
        }
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        // From here on a panic removes what is there.
        let hosts = Self {
            name,
            count,
            behind: vec![],
        };
        let switch = hosts.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        // The bridge is a wire: no packet is shown to rules that are not there. Not every kernel has the switch.
        let _ = hosts.bridge().run(|| fs::write(FILTERS, "0"));
        for k in 1..=count {
            hosts.add(k);
        }
        hosts
    }

    fn add(&self, k: u8) {
        let (host, switch, port) = (self.host(k), self.switch(), self.port(k));
        namespace(&host);
        let veth = ["link", "add", "name", "eth0", "netns", &host, "type"];
        let peer = ["veth", "peer", "name", &port, "netns", &switch];
        ip(&[&veth[..], &peer].concat());
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        give(&host, "eth0", self.address(k));
        ip(&["-n", &host, "route", "add", "default", "dev", "eth0"]);
    }

    /// A machine of a network of its own, 10.88.k.0/24, whose way out is host `k`.
    pub fn behind(&mut self, k: u8, way: Way) -> Place {
        let (router, inner) = (self.host(k), self.inner(k));
        self.behind.push(k);
        namespace(&inner);
        let veth = ["link", "add", "name", "eth0", "netns", &inner, "type"];
        let peer = ["veth", "peer", "name", "eth1", "netns", &router];
        ip(&[&veth[..], &peer].concat());
        let gateway = IpAddr::from([10, 88, k, 1]);
        give(&router, "eth1", gateway);
        give(&inner, "eth0", self.address_behind(k));
        let route = ["route", "add", "default", "via"];
        ip(&[&["-n", &inner], &route[..], &[&gateway.to_string()]].concat());
        let forwards = self.place(k).run(|| fs::write(FORWARDS, "1"));
        forwards.unwrap();
        match way {
            Way::Nat => {
                self.run(k, "nft", &["add", "table", "ip", "nat"]);
                let hook = "{ type nat hook postrouting priority 100 ; }";
                self.run(k, "nft", &["add", "chain", "ip", "nat", "out", hook]);
                let rule = ["add", "rule", "ip", "nat", "out", "oifname", "eth0"];
                self.run(k, "nft", &[&rule[..], &["masquerade"]].concat());
            }
            Way::Routed => {
                let (network, via) = (format!("10.88.{k}.0/24"), self.address(k).to_string());
                for host in (1..=self.count).filter(|host| *host != k) {
                    self.run(host, "ip", &["route", "add", &network, "via", &via]);
                }
            }
        }
        Place::Namespace(inner)
    }

    pub fn address_behind(&self, k: u8) -> IpAddr {
        IpAddr::from([10, 88, k, 2])
    }

    /// What comes to host `k` and matches `what`, as nft puts it, disappears.
    pub fn swallow(&self, k: u8, what: &str) {
        let table = format!(
            "table inet hole {{ chain in {{ type filter hook input priority 0; {what} drop; }}; }}"
        );
        self.run(k, "nft", &[&table]);
    }

    /// Runs a program on host `k` and returns what it says.
    #[track_caller]
    pub fn run(&self, k: u8, program: &str, arguments: &[&str]) -> String {
        self.place(k).output(program, arguments)
    }

    pub fn place(&self, k: u8) -> Place {
        assert!((1..=self.count).contains(&k));
        Place::Namespace(self.host(k))
    }

    pub fn address(&self, k: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, k])
    }

    /// Where the bridge is.
    pub fn bridge(&self) -> Place {
        Place::Namespace(self.switch())
    }

    /// The bridge's port to host `k`.
    pub fn port(&self, k: u8) -> String {
        format!("v{k}")
    }

    fn host(&self, k: u8) -> String {
        format!("{}-{k}", self.name)
    }

    fn inner(&self, k: u8) -> String {
        format!("{}-{k}-in", self.name)
    }

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let hosts = (1..=self.count).map(|k| self.host(k));
        let inner = self.behind.iter().map(|k| self.inner(*k));
        for name in inner.chain(hosts).chain([self.switch()]) {
            remove(&name);
        }
        // Only if nobody else has anything there.
        let _ = fs::remove_dir(NETNS);
    }
}

/// A namespace in which nobody resolves a name.
fn namespace(name: &str) {
    let resolv_conf = resolv_conf(name);
    fs::create_dir_all(resolv_conf.parent().unwrap()).unwrap();
    fs::write(resolv_conf, NAMESERVER).unwrap();
    ip(&["netns", "add", name]);
    ip(&["-n", name, "link", "set", "lo", "up"]);
}

fn give(namespace: &str, interface: &str, address: IpAddr) {
    let network = format!("{address}/24");
    ip(&["-n", namespace, "addr", "add", &network, "dev", interface]);
    ip(&["-n", namespace, "link", "set", interface, "up"]);
}

/// Removes what test programs left that were killed.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove(name);
        }
    }
}

/// With whoever still lives in it.
fn remove(name: &str) {
    let inhabitants = Command::new("ip").args(["netns", "pids", name]).output();
    for id in String::from_utf8_lossy(&inhabitants.unwrap().stdout).lines() {
        let _ = Command::new("kill").arg(id).output();
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(Path::new(NETNS).join(name));
}

fn resolv_conf(host: &str) -> PathBuf {
    Path::new(NETNS).join(host).join("resolv.conf")
}

#[track_caller]
fn ip(arguments: &[&str]) {
    Place::Here.output("ip", arguments);
}
