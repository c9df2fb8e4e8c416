//! What addresses say of their owners: which belong together, which mean something in one place only, and which are ours.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What one owner mostly has: a /24, a /48.
pub fn network_of(address: IpAddr) -> IpAddr {
    masked(address, 24, 48)
}

/// What one machine has: an IPv4 address, a /64.
pub fn host_of(address: IpAddr) -> IpAddr {
    masked(address, 32, 64)
}

/// Whether it means nothing to those behind another router.
pub fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

/// The addresses of this machine's interfaces; none where they cannot be read.
pub fn own_addresses() -> Vec<IpAddr> {
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    interfaces.iter().map(|interface| interface.ip()).collect()
}

fn masked(address: IpAddr, v4_bits: u32, v6_bits: u32) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & (u32::MAX << (32 - v4_bits))).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - v6_bits))).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_as_one() {
        let case = |address: &str, network: &str, host: &str| {
            let address: IpAddr = address.parse().unwrap();
            assert_eq!(network_of(address).to_string(), network);
            assert_eq!(host_of(address).to_string(), host);
        };
        case("192.0.2.77", "192.0.2.0", "192.0.2.77");
        case("::ffff:192.0.2.77", "192.0.2.0", "192.0.2.77");
        case("2001:db8:1:2:3::4", "2001:db8:1::", "2001:db8:1:2::");
    }

    #[test]
    fn what_is_private() {
        let case = |address: &str, private: bool| {
            assert_eq!(is_private(address.parse().unwrap()), private, "{address}");
        };
        case("192.168.1.2", true);
        case("::ffff:10.0.0.1", true);
        case("169.254.0.1", true);
        case("fd00::1", true);
        case("fe80::1", true);
        case("::1", true);
        case("203.0.113.1", false);
        case("2001:db8::1", false);
    }
}
