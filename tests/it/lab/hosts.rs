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
        let hosts = Self { name, count };
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

    fn switch(&self) -> String {
        format!("{}-sw", self.name)
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        let hosts = (1..=self.count).map(|k| self.host(k));
        for name in hosts.chain([self.switch()]) {
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
