//! Whom this machine may serve: `share = off | lan | public`, decided per address and nowhere else.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::RwLock;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::watch;

use crate::swarm::networks::{host_of, is_private};

/// Interfaces come and go (VPN, dock, hotel): their networks are read again after this long.
const INTERFACES_FRESH: Duration = Duration::from_secs(30);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// No upload and no announce; downloads only tell what is asked for.
    Off,
    /// Everything, but only inside this machine's own networks and the configured ones.
    Lan,
    Public,
}

impl Share {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Lan => "lan",
            Self::Public => "public",
        }
    }
}

#[derive(Debug, Error)]
#[error("'{0}' is none of off, lan, public")]
pub struct ShareError(String);

impl FromStr for Share {
    type Err = ShareError;

    fn from_str(text: &str) -> Result<Self, ShareError> {
        [Self::Off, Self::Lan, Self::Public]
            .into_iter()
            .find(|share| share.as_str() == text)
            .ok_or_else(|| ShareError(text.to_owned()))
    }
}

/// A CIDR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

#[derive(Debug, Error)]
#[error("'{0}' is not a network: write ADDRESS/PREFIX, for example 192.168.0.0/16 or fd00::/8")]
pub struct NetworkError(String);

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let error = || NetworkError(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(error)?;
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let prefix: u8 = prefix.parse().map_err(|_| error())?;
        let widest = if address.is_ipv4() { 32 } else { 128 };
        if prefix > widest {
            Err(error())
        } else {
            Ok(Self { address, prefix })
        }
    }
}

impl Network {
    fn contains(&self, address: IpAddr) -> bool {
        let differing = match (self.address, address) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (u32::from(a) ^ u32::from(b)).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a) ^ u128::from(b)).leading_zeros(),
            _ => return false,
        };
        differing >= u32::from(self.prefix)
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Public,
    /// It means something behind some router only, and not here.
    Private,
    Lan,
}

/// The policy with the networks that count as lan; it may change at any time.
pub struct SharePolicy {
    rules: watch::Sender<Rules>,
    interfaces: RwLock<(Instant, Vec<Network>)>,
}

struct Rules {
    share: Share,
    /// What counts as lan beside this machine's own networks.
    networks: Vec<Network>,
}

impl SharePolicy {
    pub fn new(share: Share, networks: Vec<Network>) -> Self {
        Self {
            rules: watch::Sender::new(Rules { share, networks }),
            interfaces: RwLock::new((Instant::now(), interface_networks())),
        }
    }

    pub fn share(&self) -> Share {
        self.rules.borrow().share
    }

    /// From now on; connections that are allowed no longer end.
    pub fn set(&self, share: Share, networks: Vec<Network>) {
        self.rules.send_replace(Rules { share, networks });
    }

    /// Returns when `share` is one that fits.
    pub async fn until(&self, fits: impl Fn(Share) -> bool) {
        // The sender lives as long as this policy.
        let _ = self.rules.subscribe().wait_for(|r| fits(r.share)).await;
    }

    /// Whether bytes, announces or lists may go to this address.
    pub fn allows(&self, address: SocketAddr) -> bool {
        match self.share() {
            Share::Off => false,
            Share::Public => true,
            Share::Lan => self.is_lan(address.ip()),
        }
    }

    /// Returns when this address is allowed no longer.
    pub async fn refuses(&self, address: SocketAddr) {
        let mut changes = self.rules.subscribe();
        while self.allows(address) {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    /// Within this machine's own networks or the configured ones, whatever `share` says.
    pub fn is_lan(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let link_local = match address {
            IpAddr::V4(v4) => v4.is_link_local(),
            IpAddr::V6(v6) => v6.is_unicast_link_local(),
        };
        address.is_loopback()
            || link_local
            || self
                .rules
                .borrow()
                .networks
                .iter()
                .any(|n| n.contains(address))
            || self.own_networks(|networks| networks.iter().any(|n| n.contains(address)))
    }

    /// Within the LAN, or private elsewhere: those who are neither are not told of it.
    pub fn is_confined(&self, address: IpAddr) -> bool {
        self.nearness(address) != Nearness::Public
    }

    /// What counts as one machine where there is a limit for each: the address, and beyond the LAN, whose machines share
    /// one, all of an IPv6 /64.
    pub fn machine_of(&self, address: IpAddr) -> IpAddr {
        match self.is_lan(address) {
            true => address.to_canonical(),
            false => host_of(address),
        }
    }

    /// Whether one at `from` can know of `address`: nobody far away sends us through networks that are closed to it.
    pub fn may_tell(&self, from: IpAddr, address: IpAddr) -> bool {
        self.nearness(address) <= self.nearness(from)
    }

    fn nearness(&self, address: IpAddr) -> Nearness {
        if self.is_lan(address) {
            Nearness::Lan
        } else if is_private(address) {
            Nearness::Private
        } else {
            Nearness::Public
        }
    }

    fn own_networks<T>(&self, f: impl Fn(&[Network]) -> T) -> T {
        let lock = || self.interfaces.read().unwrap_or_else(|e| e.into_inner());
        if lock().0.elapsed() > INTERFACES_FRESH {
            let fresh = (Instant::now(), interface_networks());
            *self.interfaces.write().unwrap_or_else(|e| e.into_inner()) = fresh;
        }
        f(&lock().1)
    }
}

/// The networks that this machine's interfaces are in. A point-to-point /32 or a default-like prefix says nothing of a LAN.
fn interface_networks() -> Vec<Network> {
    const WIDEST_LAN: u8 = 8;
    let interfaces = if_addrs::get_if_addrs().unwrap_or_default();
    let networks = interfaces
        .into_iter()
        .map(|interface| match interface.addr {
            if_addrs::IfAddr::V4(v4) => Network {
                address: v4.ip.into(),
                prefix: v4.prefixlen,
            },
            if_addrs::IfAddr::V6(v6) => Network {
                address: v6.ip.into(),
                prefix: v6.prefixlen,
            },
        });
    networks.filter(|n| n.prefix >= WIDEST_LAN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_parse_and_contain() {
        let case = |network: &str, address: &str, inside: bool| {
            let network: Network = network.parse().unwrap();
            assert_eq!(
                network.contains(address.parse().unwrap()),
                inside,
                "{network:?} {address}"
            );
        };
        case("192.168.0.0/16", "192.168.7.1", true);
        case("192.168.0.0/16", "192.169.0.1", false);
        case("10.0.0.0/8", "::1", false);
        case("fd00::/8", "fdab::1", true);
        case("0.0.0.0/0", "8.8.8.8", true);
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "fd00::/129", ""] {
            assert!(bad.parse::<Network>().is_err(), "{bad}");
        }
    }

    #[test]
    fn each_value_of_share() {
        let lan = vec!["198.51.100.0/24".parse().unwrap()];
        let case = |share: Share, address: &str, allowed: bool| {
            let policy = SharePolicy::new(share, lan.clone());
            assert_eq!(
                policy.allows(format!("{address}:1").parse().unwrap()),
                allowed,
                "{share:?} {address}"
            );
        };
        case(Share::Off, "127.0.0.1", false);
        case(Share::Lan, "127.0.0.1", true);
        case(Share::Lan, "198.51.100.9", true);
        case(Share::Lan, "203.0.113.1", false);
        case(Share::Lan, "[::ffff:198.51.100.9]", true);
        case(Share::Public, "203.0.113.1", true);
    }

    #[test]
    fn what_is_on_the_lan_or_private_is_confined() {
        let lan = vec!["198.51.100.0/24".parse().unwrap()];
        let policy = SharePolicy::new(Share::Public, lan);
        let case = |address: &str, confined: bool| {
            let address = address.parse().unwrap();
            assert_eq!(policy.is_confined(address), confined, "{address}");
        };
        case("198.51.100.9", true);
        case("fd00:1::1", true);
        case("127.0.0.1", true);
        case("203.0.113.1", false);
    }

    #[test]
    fn beyond_the_lan_a_64_is_one_machine() {
        let policy = SharePolicy::new(Share::Public, vec!["fd00::/16".parse().unwrap()]);
        let machine = |text: &str| policy.machine_of(text.parse().unwrap());
        assert_eq!(machine("2001:db8::1"), machine("2001:db8::2:3"));
        assert_ne!(machine("2001:db8::1"), machine("2001:db8:0:1::1"));
        assert_ne!(machine("fd00::1"), machine("fd00::2"));
        assert_ne!(machine("192.0.2.1"), machine("192.0.2.2"));
        assert_eq!(machine("::ffff:192.0.2.1"), machine("192.0.2.1"));
    }

    #[test]
    fn nobody_tells_of_what_is_closed_to_it() {
        let lan = vec!["198.51.100.0/24".parse().unwrap()];
        let policy = SharePolicy::new(Share::Public, lan);
        let case = |from: &str, address: &str, may: bool| {
            let told = policy.may_tell(from.parse().unwrap(), address.parse().unwrap());
            assert_eq!(told, may, "{from} tells of {address}");
        };
        case("203.0.113.1", "203.0.113.2", true);
        case("203.0.113.1", "127.0.0.1", false);
        case("203.0.113.1", "::ffff:198.51.100.9", false);
        case("203.0.113.1", "fd00:1::1", false);
        case("fd00:1::1", "fd00:2::1", true);
        case("fd00:1::1", "198.51.100.9", false);
        case("198.51.100.9", "127.0.0.1", true);
    }

    #[tokio::test]
    async fn a_change_ends_what_it_forbids() {
        let policy = SharePolicy::new(Share::Public, vec![]);
        let (near, far) = (
            "127.0.0.1:1".parse().unwrap(),
            "203.0.113.1:1".parse().unwrap(),
        );
        let mut refuses = std::pin::pin!(policy.refuses(far));
        assert!(futures_util::poll!(&mut refuses).is_pending());
        policy.set(Share::Lan, vec![]);
        refuses.await;
        assert!(policy.allows(near));
        policy.set(Share::Off, vec![]);
        policy.refuses(near).await;
    }
}
