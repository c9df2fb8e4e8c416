//! Where a channel's manifest comes from, as the configuration says it.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;
use url::Url;

use crate::torrent::{InfoHash, Magnet};

/// `DIR`, `http(s)://...` or `magnet:?xt=urn:btih:...` of the manifest; or a channel link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ManifestSource {
    Directory(PathBuf),
    Url(Url),
    Magnet {
        info_hash: InfoHash,
        peers: Vec<SocketAddr>,
    },
    /// Only the channel's pointer tells, whoever brings it; `peers` are where to begin.
    Link {
        peers: Vec<SocketAddr>,
    },
}

#[derive(Debug, Error)]
#[error("'{0}' is neither a directory nor an http(s) URL nor a magnet link of a manifest")]
pub struct ManifestSourceForm(String);

impl ManifestSource {
    /// Peers that the source names itself.
    pub fn peers(&self) -> &[SocketAddr] {
        match self {
            Self::Directory(_) | Self::Url(_) => &[],
            Self::Magnet { peers, .. } | Self::Link { peers } => peers,
        }
    }
}

impl FromStr for ManifestSource {
    type Err = ManifestSourceForm;

    fn from_str(text: &str) -> Result<Self, ManifestSourceForm> {
        let error = || ManifestSourceForm(text.to_owned());
        if text.starts_with("magnet:") {
            let magnet: Magnet = text.parse().map_err(|_| error())?;
            return Ok(Self::Magnet {
                info_hash: magnet.info_hash,
                peers: magnet.peers,
            });
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            return text.parse().map(Self::Url).map_err(|_| error());
        }
        if text.is_empty() || text.contains("://") {
            return Err(error());
        }
        Ok(Self::Directory(
            text.strip_prefix("file:").unwrap_or(text).into(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let hash = "0123456789abcdef0123456789abcdef01234567";
        let case = |text: &str, source: ManifestSource| {
            assert_eq!(text.parse::<ManifestSource>().unwrap(), source)
        };
        case(
            "/srv/channel",
            ManifestSource::Directory("/srv/channel".into()),
        );
        case(
            "https://example.org/c",
            ManifestSource::Url("https://example.org/c".parse().unwrap()),
        );
        let magnet = format!("magnet:?xt=urn:btih:{hash}&x.pe=192.0.2.1:6881");
        let peers = vec!["192.0.2.1:6881".parse().unwrap()];
        case(
            &magnet,
            ManifestSource::Magnet {
                info_hash: hash.parse().unwrap(),
                peers,
            },
        );
        for bad in ["", "ftp://example.org/", "magnet:?dn=x"] {
            assert!(bad.parse::<ManifestSource>().is_err(), "{bad}");
        }
    }
}
