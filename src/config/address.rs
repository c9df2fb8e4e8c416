//! Addresses as people write them: literal, because nothing may need DNS.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

#[derive(Debug, Error, PartialEq, Eq)]
#[error("write IP:PORT, for example 192.0.2.7:6881 or [2001:db8::7]:6881; names are not looked up")]
pub struct AddressError;

pub fn literal_address(text: &str) -> Result<SocketAddr, AddressError> {
    text.parse().map_err(|_| AddressError)
}

/// For serde's `deserialize_with`.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<SocketAddr, D::Error> {
    literal_address(&String::deserialize(from)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_literals_with_a_port() {
        for good in ["192.0.2.7:6881", "[::1]:0"] {
            assert_eq!(literal_address(good).unwrap().to_string(), good);
        }
        for bad in ["", "6881", "192.0.2.7", "example.org:6881", "::1:6881"] {
            assert_eq!(literal_address(bad), Err(AddressError), "{bad}");
        }
    }
}
