//! A tracker named by a header. Its host is a literal address: a release must work where names do not resolve.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::HeaderError;
use super::limits::MAX_TRACKER_URL;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackerUrl(String);

impl TrackerUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrackerUrl {
    type Err = HeaderError;

    fn from_str(text: &str) -> Result<Self, HeaderError> {
        let error = || HeaderError::Tracker(text.chars().take(MAX_TRACKER_URL).collect());
        if text.len() > MAX_TRACKER_URL || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(error());
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(error)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let with_port = authority.parse::<SocketAddr>().is_ok();
        let host = authority
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        let alone = host.unwrap_or(authority).parse::<IpAddr>();
        let good = match scheme {
            "udp" => with_port,
            // A bare IPv6 address must be in brackets in a URL.
            "http" | "https" => with_port || alone.is_ok_and(|ip| ip.is_ipv6() == host.is_some()),
            _ => false,
        };
        match good {
            true => Ok(Self(text.to_owned())),
            false => Err(error()),
        }
    }
}

impl fmt::Display for TrackerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        fn case(url: &str, good: bool) {
            assert_eq!(url.parse::<TrackerUrl>().is_ok(), good, "{url:?}");
        }
        case("http://192.0.2.1:6969/announce", true);
        case("http://192.0.2.1/announce", true);
        case("https://[2001:db8::1]/announce?key=1", true);
        case("udp://[2001:db8::1]:6969", true);
        case("udp://192.0.2.1", false);
        case("http://2001:db8::1/announce", false);
        case("http://tracker.example/announce", false);
        case("http://192.0.2.1@tracker.example/", false);
        case("wss://192.0.2.1:1/", false);
        case("http://192.0.2.1:6969/a b", false);
        case("192.0.2.1:6969", false);
        case(&format!("http://192.0.2.1/{}", "a".repeat(256)), false);
    }
}
