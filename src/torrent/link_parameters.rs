//! The parameters of a `magnet:?` link (BEP 9, BEP 46), bounded and percent-decoded.

use std::net::SocketAddr;

use super::TorrentError;

/// Longer than any link that a person passes on.
const MAX_LINK: usize = 8 * 1024;
/// Addresses that one link may name.
const MAX_PEERS: usize = 64;

pub struct LinkParameters {
    /// Name and decoded value, in the order of the link.
    values: Vec<(String, String)>,
}

impl LinkParameters {
    pub fn parse(link: &str) -> Result<Self, TorrentError> {
        if link.len() > MAX_LINK {
            return Err(TorrentError::LinkSize(link.len(), MAX_LINK));
        }
        let query = link.strip_prefix("magnet:?");
        let query =
            query.ok_or_else(|| TorrentError::NotMagnet(link.chars().take(64).collect()))?;
        let mut values = Vec::new();
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let decoded = decode(value).ok_or_else(|| TorrentError::LinkValue {
                name: "a parameter",
                value: value.to_owned(),
                wanted: "percent-encoded UTF-8",
            })?;
            values.push((name.to_owned(), decoded));
        }
        Ok(Self { values })
    }

    /// The values of every `name=`.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let values = self.values.iter().filter(move |(found, _)| found == name);
        values.map(|(_, value)| value.as_str())
    }

    /// The value of the one `name=`, if there is one.
    pub fn at_most_one(&self, name: &'static str) -> Result<Option<&str>, TorrentError> {
        let mut values = self.all(name);
        let first = values.next();
        match values.next() {
            None => Ok(first),
            Some(_) => Err(TorrentError::LinkRepeats { name, max: 1 }),
        }
    }

    /// The addresses of `x.pe=`. Only literal ones: a link must work where names do not resolve.
    pub fn peers(&self) -> Result<Vec<SocketAddr>, TorrentError> {
        let name = "x.pe";
        let parse = |value: &str| {
            let parsed = value.parse();
            parsed.map_err(|_| TorrentError::LinkValue {
                name,
                value: value.to_owned(),
                wanted: "a literal address and port, such as 192.0.2.1:6881 or [2001:db8::1]:6881",
            })
        };
        let peers: Vec<_> = self.all(name).map(parse).collect::<Result<_, _>>()?;
        if peers.len() > MAX_PEERS {
            return Err(TorrentError::LinkRepeats {
                name,
                max: MAX_PEERS,
            });
        }
        Ok(peers)
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                out.push(byte.into());
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn decode(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        let (high, low) = (digit()?, digit()?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    #[test]
    fn decoding() {
        fn case(input: &str, expected: Option<&str>) {
            assert_eq!(decode(input).as_deref(), expected, "{input}");
        }
        case("a%20b", Some("a b"));
        case("a+b", Some("a+b"));
        case("%c3%A4", Some("ä"));
        case("%c3", None);
        case("%", None);
        case("%4", None);
        case("%+1", None);
    }

    proptest! {
        #[test]
        fn round_trip(text in any::<String>()) {
            prop_assert_eq!(decode(&encode(&text)), Some(text));
        }
    }
}
