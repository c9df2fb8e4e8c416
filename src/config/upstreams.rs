//! `[[upstream]]` and `netrc`: the binary caches to ask, and who asks them.

use std::fs;
use std::io;
use std::path::Path;

use percent_encoding::percent_decode_str;
use url::Url;

use crate::upstream::{Credentials, Netrc, UpstreamOptions};

use super::node::{Checker, ConfigError};
use super::sections::UpstreamSection;

/// The cache that most of the world uses, and its key.
const NIXOS_CACHE: &str = "https://cache.nixos.org/";
const NIXOS_KEY: &str = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=";
/// nix.conf's default for `netrc-file`.
const NIX_NETRC: &str = "/etc/nix/netrc";
/// Stores that Nix asks itself, and that speak no HTTP.
const OTHER_STORES: [&str; 5] = ["s3", "ssh", "ssh-ng", "file", "local"];

impl Checker<'_> {
    pub(super) fn upstreams(
        &self,
        sections: &[UpstreamSection],
        netrc: &Netrc,
        warnings: &mut Vec<String>,
    ) -> Result<Vec<UpstreamOptions>, ConfigError> {
        let mut upstreams = Vec::with_capacity(sections.len());
        for section in sections {
            let mut url = self.url("upstream.url", &section.url)?;
            if OTHER_STORES.contains(&url.scheme()) {
                warnings.push(format!(
                    "upstream.url = {url} is not asked, only http and https are: leave it in nix.conf, behind this agent"
                ));
                continue;
            }
            if !matches!(url.scheme(), "http" | "https") {
                return Err(self.error(
                    "upstream.url",
                    &format!("'{url}' is neither http nor https: leave it in nix.conf"),
                ));
            }
            if section.timeout.0.is_zero() {
                return Err(self.error("upstream.timeout", "0 leaves no time for an answer"));
            }
            let credentials = take_credentials(&mut url)
                .or_else(|| netrc.find(url.host_str().unwrap_or_default()).cloned());
            let known = || match url.as_str() {
                NIXOS_CACHE => vec![NIXOS_KEY.to_owned()],
                _ => vec![],
            };
            let keys = section.keys.clone().unwrap_or_else(known);
            upstreams.push(UpstreamOptions {
                keys: self.parse_all("upstream.keys", &keys)?,
                resolve: self.parse_all("upstream.resolve", &section.resolve)?,
                timeout: section.timeout.0,
                breaks: true,
                credentials,
                url,
            });
        }
        Ok(upstreams)
    }

    fn url(&self, key: &str, text: &str) -> Result<Url, ConfigError> {
        Url::parse(text).map_err(|error| {
            let remedy = match error {
                url::ParseError::RelativeUrlWithoutBase => "write http:// or https:// before it",
                _ => "it is not a URL",
            };
            self.error(key, &format!("'{text}': {remedy}"))
        })
    }
}

/// A URL is shown and logged; whoever is named in it is not.
fn take_credentials(url: &mut Url) -> Option<Credentials> {
    let plain = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let credentials = Credentials {
        login: plain(url.username()),
        password: plain(url.password().unwrap_or_default()),
    };
    // They fail for URLs without a host only, and those have no user.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    (!credentials.login.is_empty() || !credentials.password.is_empty()).then_some(credentials)
}

/// The file that is configured, or Nix's own where it is readable: a cache without a password is asked all the same.
pub(super) fn netrc(configured: Option<&Path>, warnings: &mut Vec<String>) -> Netrc {
    let path = configured.unwrap_or(Path::new(NIX_NETRC));
    let read = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && configured.is_none() => {
            return Netrc::default();
        }
        read => read.map_err(|error| error.to_string()),
    };
    let parsed = read.and_then(|text| Netrc::parse(&text).map_err(|error| error.to_string()));
    parsed.unwrap_or_else(|error| {
        let path = path.display();
        warnings.push(format!(
            "netrc = {path}: {error}: upstreams are asked without a password"
        ));
        Netrc::default()
    })
}
