//! Name resolution for one upstream: pinned addresses, or the system's resolver with at most one look-up under way.
//!
//! `getaddrinfo` cannot be cancelled and takes up to 20 s when DNS is dead; callers give up after their deadline, and
//! those who come later join the look-up that is still running instead of starting another thread.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;
use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use thiserror::Error;

/// An address to use instead of DNS: `ADDRESS`, or as curl writes it `HOST:PORT:ADDRESS[,ADDRESS]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvePin {
    host: Option<String>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Error)]
#[error(
    "'{0}' is not a pinned address: write ADDRESS or HOST:PORT:ADDRESS, for example 151.101.1.91"
)]
pub struct ResolvePinError(String);

impl FromStr for ResolvePin {
    type Err = ResolvePinError;

    fn from_str(text: &str) -> Result<Self, ResolvePinError> {
        let error = || ResolvePinError(text.to_owned());
        let literal = |text: &str| {
            text.trim_matches(['[', ']'])
                .parse::<IpAddr>()
                .map_err(|_| error())
        };
        if let Ok(address) = literal(text) {
            return Ok(Self {
                host: None,
                addresses: vec![address],
            });
        }
        let mut parts = text.splitn(3, ':');
        let (Some(host), Some(port), Some(addresses)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(error());
        };
        if host.is_empty() || port.parse::<u16>().is_err() {
            return Err(error());
        }
        let addresses = addresses
            .split(',')
            .map(literal)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            host: Some(host.to_owned()),
            addresses,
        })
    }
}

type Lookup = Shared<BoxFuture<'static, Result<Vec<SocketAddr>, String>>>;

pub struct BoundedResolver {
    /// The upstream's own; a pin without a name is of this one, not of those that it redirects to.
    host: String,
    pins: Vec<ResolvePin>,
    running: Arc<Mutex<Option<(String, Lookup)>>>,
}

impl BoundedResolver {
    pub fn new(host: &str, pins: Vec<ResolvePin>) -> Self {
        Self {
            host: host.to_owned(),
            pins,
            running: Arc::default(),
        }
    }

    fn pinned(&self, host: &str) -> Vec<SocketAddr> {
        let matching = self
            .pins
            .iter()
            .filter(|pin| pin.host.as_ref().unwrap_or(&self.host) == host);
        // Port 0: reqwest puts the URL's port in its place.
        matching
            .flat_map(|pin| &pin.addresses)
            .map(|address| SocketAddr::new(*address, 0))
            .collect()
    }

    fn look_up(&self, host: String) -> Lookup {
        let mut running = self.running.lock().unwrap_or_else(|e| e.into_inner());
        if let Some((name, lookup)) = &*running
            && *name == host
            && lookup.peek().is_none()
        {
            return lookup.clone();
        }
        let name = host.clone();
        // A thread of its own: the runtime's blocking pool must not fill with look-ups, nor wait for them at exit.
        let (sender, receiver) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let found = (host.as_str(), 0)
                .to_socket_addrs()
                .map(Iterator::collect)
                .map_err(|error| error.to_string());
            let _ = sender.send(found);
        });
        let lookup = async move {
            receiver
                .await
                .unwrap_or_else(|_| Err("the look-up ended".to_owned()))
        }
        .boxed()
        .shared();
        *running = Some((name, lookup.clone()));
        lookup
    }
}

impl Resolve for BoundedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let pinned = self.pinned(name.as_str());
        if !pinned.is_empty() {
            return async move { Ok(Box::new(pinned.into_iter()) as Addrs) }.boxed();
        }
        let lookup = self.look_up(name.as_str().to_owned());
        async move { Ok(Box::new(lookup.await?.into_iter()) as Addrs) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_parse() {
        let case = |text: &str, host: Option<&str>, addresses: &[&str]| {
            let pin: ResolvePin = text.parse().unwrap();
            assert_eq!(pin.host.as_deref(), host, "{text}");
            assert_eq!(
                pin.addresses,
                addresses
                    .iter()
                    .map(|a| a.parse::<IpAddr>().unwrap())
                    .collect::<Vec<_>>(),
                "{text}"
            );
        };
        case("192.0.2.1", None, &["192.0.2.1"]);
        case("2001:db8::1", None, &["2001:db8::1"]);
        case(
            "cache.example:443:192.0.2.1,[2001:db8::1]",
            Some("cache.example"),
            &["192.0.2.1", "2001:db8::1"],
        );
        for bad in [
            "",
            "cache.example",
            "cache.example:443",
            "cache.example:x:192.0.2.1",
            ":443:192.0.2.1",
        ] {
            assert!(bad.parse::<ResolvePin>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pin_for_another_host_does_not_count() {
        let pins = vec!["a.example:443:192.0.2.1".parse().unwrap()];
        let resolver = BoundedResolver::new("b.example", pins);
        assert_eq!(
            resolver.pinned("a.example"),
            ["192.0.2.1:0".parse().unwrap()]
        );
        assert!(resolver.pinned("b.example").is_empty());
        // Whoever is redirected to is somebody else.
        let resolver = BoundedResolver::new("b.example", vec!["192.0.2.1".parse().unwrap()]);
        assert!(!resolver.pinned("b.example").is_empty());
        assert!(resolver.pinned("a.example").is_empty());
    }
}
