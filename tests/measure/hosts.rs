//! The lab's hosts, each behind a link of its own rate and delay. Nothing reaches the machine's own network.

use std::ops::Deref;

use crate::delay_line::DELAY_LINE;
use crate::lab;
use crate::lab::Place;
use crate::link_meter::{self, LinkUse};
use crate::need;
use crate::started::Started;

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
    // They end before the hosts do.
    delay_lines: Vec<Started>,
    hosts: lab::Hosts,
}

impl Hosts {
    /// Host k has the k-th link, counted from 1.
    pub fn new(links: &[Link]) -> Self {
        need::root();
        need::program("ip", "iproute2");
        need::program("tc", "iproute2");
        let delayed = links.iter().any(|link| link.round_trip_ms > 0.0);
        if delayed {
            need::program("ethtool", "ethtool");
        }
        let mut hosts = Self {
            delay_lines: Vec::new(),
            hosts: lab::Hosts::new(links.len() as u8),
        };
        for (k, link) in (1..).zip(links) {
            if delayed {
                let off = ["tx", "sg", "tso", "gso", "gro"].map(|what| [what, "off"]);
                hosts.run(
                    k,
                    "ethtool",
                    &[&["-K", "eth0"], off.as_flattened()].concat(),
                );
            }
            hosts.shape(k, link);
        }
        hosts
    }

    fn shape(&mut self, k: u8, link: &Link) {
        let (bridge, port) = (self.bridge(), self.port(k));
        if let Some(up) = link.up {
            shape(&self.place(k), "eth0", up);
        }
        if let Some(down) = link.down {
            shape(&bridge, &port, down);
        }
        if link.round_trip_ms > 0.0 {
            let (outer, inner) = (format!("w{k}"), format!("x{k}"));
            let ip = |arguments: &[&str]| bridge.output("ip", arguments);
            ip(&["link", "set", &port, "nomaster"]);
            let veth = ["type", "veth", "peer", "name", &inner];
            ip(&[&["link", "add", &outer], &veth[..]].concat());
            ip(&["link", "set", &inner, "master", "br0", "up"]);
            ip(&["link", "set", &outer, "up"]);
            let one_way = (link.round_trip_ms / 2.0).to_string();
            let line = [DELAY_LINE, &port, &outer, &one_way];
            self.delay_lines.push(Started::ourselves(&bridge, &line));
        }
    }

    /// What host `k` receives while `work` runs.
    pub fn watch<T>(&self, k: u8, rate_mbit: f64, work: impl FnOnce() -> T) -> (T, LinkUse) {
        link_meter::watch(&self.bridge(), &self.port(k), rate_mbit, work)
    }
}

impl Deref for Hosts {
    type Target = lab::Hosts;

    fn deref(&self) -> &lab::Hosts {
        &self.hosts
    }
}

fn shape(place: &Place, interface: &str, rate: f64) {
    let rate = format!("{rate}mbit");
    let root = ["qdisc", "replace", "dev", interface, "root"];
    let tbf = ["tbf", "rate", &rate, "burst", BURST, "latency", QUEUE];
    place.output("tc", &[&root[..], &tbf].concat());
}
