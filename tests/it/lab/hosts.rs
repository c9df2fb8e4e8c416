//! Hosts in network namespaces on one bridge, with nobody who would resolve a name. All of it goes away with the value.

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
        let name = format!("nsw-{}-{number}", std::process::id());
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
        for k in 1..=count {
            hosts.add(k);
        }
        hosts
    }

    fn add(&self, k: u8) {
        let (host, switch, port) = (self.host(k), self.switch(), format!("v{k}"));
        let address = format!("{}/24", self.address(k));
        let resolv_conf = resolv_conf(&host);
        fs::create_dir_all(resolv_conf.parent().unwrap()).unwrap();
        fs::write(resolv_conf, NAMESERVER).unwrap();
        ip(&["netns", "add", &host]);
        ip(&["-n", &host, "link", "set", "lo", "up"]);
        let veth = ["link", "add", "name", "eth0", "netns", &host, "type"];
        let peer = ["veth", "peer", "name", &port, "netns", &switch];
        ip(&[&veth[..], &peer].concat());
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        ip(&["-n", &host, "addr", "add", &address, "dev", "eth0"]);
        ip(&["-n", &host, "link", "set", "eth0", "up"]);
        ip(&["-n", &host, "route", "add", "default", "dev", "eth0"]);
    }

    /// A machine of a network of its own, 10.88.k.0/24, whose way out is host `k`.
    pub fn behind(&mut self, k: u8, way: Way) -> Place {
        let (router, inner) = (self.host(k), self.inner(k));
        self.behind.push(k);
        let resolv_conf = resolv_conf(&inner);
        fs::create_dir_all(resolv_conf.parent().unwrap()).unwrap();
        fs::write(resolv_conf, NAMESERVER).unwrap();
        ip(&["netns", "add", &inner]);
        ip(&["-n", &inner, "link", "set", "lo", "up"]);
        let veth = ["link", "add", "name", "eth0", "netns", &inner, "type"];
        let peer = ["veth", "peer", "name", "eth1", "netns", &router];
        ip(&[&veth[..], &peer].concat());
        let ours = format!("10.88.{k}.1");
        let theirs = format!("{}/24", self.address_behind(k));
        ip(&[
            "-n",
            &router,
            "addr",
            "add",
            &format!("{ours}/24"),
            "dev",
            "eth1",
        ]);
        ip(&["-n", &router, "link", "set", "eth1", "up"]);
        ip(&["-n", &inner, "addr", "add", &theirs, "dev", "eth0"]);
        ip(&["-n", &inner, "link", "set", "eth0", "up"]);
        ip(&["-n", &inner, "route", "add", "default", "via", &ours]);
        self.run(k, "sysctl", &["-q", "-w", "net.ipv4.ip_forward=1"]);
        match way {
            Way::Nat => {
                self.run(k, "nft", &["add", "table", "ip", "nat"]);
                let hook = "{ type nat hook postrouting priority 100 ; }";
                self.run(k, "nft", &["add", "chain", "ip", "nat", "out", hook]);
                let rule = [
                    "add",
                    "rule",
                    "ip",
                    "nat",
                    "out",
                    "oifname",
                    "eth0",
                    "masquerade",
                ];
                self.run(k, "nft", &rule);
            }
            Way::Routed => {
                let network = format!("10.88.{k}.0/24");
                let gateway = self.address(k).to_string();
                for host in (1..=self.count).filter(|host| *host != k) {
                    ip(&[
                        "-n",
                        &self.host(host),
                        "route",
                        "add",
                        &network,
                        "via",
                        &gateway,
                    ]);
                }
            }
        }
        Place::Namespace(inner)
    }

    pub fn address_behind(&self, k: u8) -> IpAddr {
        IpAddr::from([10, 88, k, 2])
    }

    /// Runs a program on host `k` and returns what it says.
    #[track_caller]
    pub fn run(&self, k: u8, program: &str, arguments: &[&str]) -> String {
        let output = self
            .place(k)
            .command(program)
            .args(arguments)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {errors}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub fn place(&self, k: u8) -> Place {
        assert!((1..=self.count).contains(&k));
        Place::Namespace(self.host(k))
    }

    pub fn address(&self, k: u8) -> IpAddr {
        IpAddr::from([10, 77, 0, k])
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

/// Removes what test programs left that were killed.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name
            .strip_prefix("nsw-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove(name);
        }
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = fs::remove_dir_all(Path::new(NETNS).join(name));
}

fn resolv_conf(host: &str) -> PathBuf {
    Path::new(NETNS).join(host).join("resolv.conf")
}

#[track_caller]
fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments:?}: {errors}");
}
