//! A machine behind NAT whose router speaks UPnP is reached from outside once it serves the public.

use std::{fs, path::PathBuf};

use crate::lab::{Channel, ChildProcess, Hosts, Need, Node, Way};

const NEEDS: [Need; 3] = [
    Need::Namespaces,
    Need::Program("nft"),
    Need::Program("miniupnpd"),
];
const PORT: u16 = 6881;
/// What miniupnpd fills, as its package makes it.
const TABLE: &str = "table inet upnp {
    chain miniupnpd { }
    chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
}";

/// A router's own daemon, on host `k`.
fn router(hosts: &Hosts, k: u8, directory: PathBuf) -> ChildProcess {
    let file = |name: &str, text: &str| {
        let path = directory.join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    hosts.run(k, "nft", &["-f", &file("table.nft", TABLE)]);
    let leases = directory.join("leases");
    let config = format!(
        "ext_ifname=eth0\next_ip=1.2.3.4\nlistening_ip=eth1\nenable_upnp=yes\nsecure_mode=yes\nforce_igd_desc_v1=yes\n\
         upnp_table_name=upnp\nupnp_nat_table_name=upnp\nlease_file={}\n\
         uuid=00000000-0000-4000-8000-000000000001\nallow 1024-65535 0.0.0.0/0 1024-65535\n",
        leases.display()
    );
    let mut command = hosts.place(k).command("miniupnpd");
    command.args(["-d", "-f", &file("miniupnpd.conf", &config)]);
    command.arg("-P").arg(directory.join("pid"));
    ChildProcess::start(command, &directory, "miniupnpd")
}

#[test]
fn the_router_is_asked_for_a_way_in() {
    let Some(channel) = Channel::small("the_router_is_asked_for_a_way_in", &NEEDS) else {
        return;
    };
    let mut hosts = Hosts::new(2);
    let inside = hosts.behind(2, Way::Nat);
    let router_files = channel.scratch.directory("router");
    let leases = router_files.join("leases");
    let _router = router(&hosts, 2, router_files);
    let holder = channel
        .seedbox("holder")
        .upnp()
        .share("public")
        .listen(hosts.address_behind(2))
        .port(PORT);
    let holder = Node::start_in(&inside, &holder);
    holder.wait_for_offer(channel.closure.paths.len());

    // It knows the router's address, and the holder knows nobody.
    let agent = channel
        .agent("agent")
        .listen(hosts.address(1))
        .peer((hosts.address(2), PORT).into());
    let agent = Node::start_in(&hosts.place(1), &agent);
    agent.wait("neighbour", |s| s["swarm"]["neighbours"] == 1);
    channel.fetch_from_swarm(&agent);
    assert!(holder.bytes("uploaded") > 0);

    // The way in ends with it, not with the lease.
    let leased = || fs::read_to_string(&leases).unwrap_or_default();
    let mapping = format!("TCP:{PORT}:{}:{PORT}:", hosts.address_behind(2));
    assert!(leased().contains(&mapping), "{}", leased());
    holder.stop();
    assert!(!leased().contains(&mapping), "{}", leased());
}
