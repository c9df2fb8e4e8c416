//! Hosts in network namespaces on one bridge, each behind a link of its own rate and delay. Nobody there would resolve a
//! name, and nothing reaches the machine's own network. All of it goes away with the value.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::delay_line::DELAY_LINE;
use crate::link_meter::{self, LinkUse};
use crate::need;
use crate::place::Place;
use crate::started::Started;

const NETNS: &str = "/etc/netns";
/// Nobody has this address.
const NAMESERVER: &str = "nameserver 10.77.0.250\n";
/// A link's queue, as time at its rate: a home router's.
const QUEUE: &str = "200ms";
/// What tbf sends at once.
const BURST: &str = "64kb";

/// What lies between a host and the bridge. Rates in Mbit/s.
#[derive(Debug, Clone, Copy, Default)]
pub struct Link {
    pub up: Option<f64>,
    pub down: Option<f64>,
    /// From the host to the bridge and back.
    pub round_trip_ms: f64,
}

pub struct Hosts {
    name: String,
    count: u8,
    delay_lines: Vec<Started>,
}

impl Hosts {
    /// Host k has the k-th link, counted from 1, and the address 10.77.0.k.
    pub fn new(links: &[Link]) -> Self {
        need::root();
        need::program("ip", "iproute2");
        need::program("tc", "iproute2");
        sweep();
        let name = format!("nsl-{}", std::process::id());
        // From here on a panic removes what is there.
        let mut hosts = Self {
            name,
            count: links.len() as u8,
            delay_lines: Vec::new(),
        };
        let switch = hosts.switch();
        ip(&["netns", "add", &switch]);
        ip(&["-n", &switch, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &switch, "link", "set", "br0", "up"]);
        let delayed = links.iter().any(|link| link.round_trip_ms > 0.0);
        for (k, link) in (1..).zip(links) {
            hosts.add(k, delayed);
            hosts.shape(k, link);
        }
        hosts
    }

    fn add(&self, k: u8, delayed: bool) {
        let (host, switch, port) = (self.host(k), self.switch(), format!("v{k}"));
        let resolv_conf = resolv_conf(&host);
        fs::create_dir_all(resolv_conf.parent().unwrap()).unwrap();
        fs::write(resolv_conf, NAMESERVER).unwrap();
        ip(&["netns", "add", &host]);
        ip(&["-n", &host, "link", "set", "lo", "up"]);
        let veth = ["link", "add", "name", "eth0", "netns", &host, "type"];
        let peer = ["veth", "peer", "name", &port, "netns", &switch];
        ip(&[&veth[..], &peer].concat());
        ip(&["-n", &switch, "link", "set", &port, "master", "br0", "up"]);
        let address = format!("{}/24", self.address(k));
        ip(&["-n", &host, "addr", "add", &address, "dev", "eth0"]);
        ip(&["-n", &host, "link", "set", "eth0", "up"]);
        if delayed {
            need::program("ethtool", "ethtool");
            let off = ["tx", "sg", "tso", "gso", "gro"].map(|what| [what, "off"]);
            let mut command = self.place(k).command("ethtool");
            command.args(["-K", "eth0"]).args(off.as_flattened());
            run(&mut command);
        }
    }

    fn shape(&mut self, k: u8, link: &Link) {
        let (switch, port) = (self.switch(), format!("v{k}"));
        if let Some(up) = link.up {
            shape(&self.host(k), "eth0", up);
        }
        if let Some(down) = link.down {
            shape(&switch, &port, down);
        }
        if link.round_trip_ms > 0.0 {
            let (outer, inner) = (format!("w{k}"), format!("x{k}"));
            let in_switch = |arguments: &[&str]| ip(&[&["-n", &switch], arguments].concat());
            in_switch(&["link", "set", &port, "nomaster"]);
            let veth = [
                "link", "add", &outer, "type", "veth", "peer", "name", &inner,
            ];
            in_switch(&veth);
            in_switch(&["link", "set", &inner, "master", "br0", "up"]);
            in_switch(&["link", "set", &outer, "up"]);
            let one_way = (link.round_trip_ms / 2.0).to_string();
            let line = [DELAY_LINE, &port, &outer, &one_way];
            let line = Started::ourselves(&Place::Namespace(switch), &line);
            self.delay_lines.push(line);
        }
    }

    pub fn address(&self, k: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, k)
    }

    pub fn place(&self, k: u8) -> Place {
        assert!((1..=self.count).contains(&k));
        Place::Namespace(self.host(k))
    }

    /// What host `k` receives while `work` runs.
    pub fn watch<T>(&self, k: u8, rate_mbit: f64, work: impl FnOnce() -> T) -> (T, LinkUse) {
        let switch = Place::Namespace(self.switch());
        link_meter::watch(&switch, &format!("v{k}"), rate_mbit, work)
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
        self.delay_lines.clear();
        (1..=self.count).for_each(|k| remove(&self.host(k)));
        remove(&self.switch());
        // Only if nobody else has anything there.
        let _ = fs::remove_dir(NETNS);
    }
}

fn shape(namespace: &str, interface: &str, rate: f64) {
    let rate = format!("{rate}mbit");
    let tbf = ["tbf", "rate", &rate, "burst", BURST, "latency", QUEUE];
    let mut command = Command::new("tc");
    command
        .args([
            "-n", namespace, "qdisc", "replace", "dev", interface, "root",
        ])
        .args(tbf);
    run(&mut command);
}

/// Removes what measurements left that were killed.
fn sweep() {
    let listed = Command::new("ip").args(["netns", "list"]).output().unwrap();
    for line in String::from_utf8_lossy(&listed.stdout).lines() {
        let name = line.split(' ').next().unwrap_or_default();
        let owner = name
            .strip_prefix("nsl-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            remove(name);
        }
    }
}

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

fn ip(arguments: &[&str]) {
    run(Command::new("ip").args(arguments));
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}
