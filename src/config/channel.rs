//! `[[channel]]` as the options of a followed channel: by its key and manifest, or by its link.

use std::collections::HashSet;

use crate::follow::{ChannelOptions, ManifestSource};
use crate::manifest::ChannelName;
use crate::nix::PublicKey;
use crate::torrent::ChannelLink;

use super::node::{Checker, ConfigError};
use super::sections::ChannelSection;

impl Checker<'_> {
    pub(super) fn channels(
        &self,
        sections: &[ChannelSection],
        keep_files: bool,
    ) -> Result<Vec<ChannelOptions>, ConfigError> {
        let mut names = HashSet::new();
        let mut channels = Vec::with_capacity(sections.len());
        for section in sections {
            let channel = match &section.link {
                Some(link) => self.linked(section, link, keep_files)?,
                None => self.channel(section, keep_files)?,
            };
            if !names.insert((channel.name.clone(), channel.key.bytes())) {
                return Err(self.error(
                    "channel.name",
                    &format!("'{}' is followed twice with one key", channel.name),
                ));
            }
            channels.push(channel);
        }
        Ok(channels)
    }

    fn channel(
        &self,
        section: &ChannelSection,
        keep_files: bool,
    ) -> Result<ChannelOptions, ConfigError> {
        let required = |key: &str, value: &Option<String>| {
            value.clone().ok_or_else(|| {
                self.error(
                    key,
                    "is missing (or give link instead of name, key and manifest)",
                )
            })
        };
        let name = required("channel.name", &section.name)?;
        let key = required("channel.key", &section.key)?;
        let manifest = required("channel.manifest", &section.manifest)?;
        Ok(ChannelOptions {
            name: self.parse("channel.name", &name)?,
            key: self.parse("channel.key", &key)?,
            source: self.parse::<ManifestSource>("channel.manifest", &manifest)?,
            keep_releases: section.keep_releases,
            keep_files,
        })
    }

    /// A channel by its link. Name and key are in it; where they are written as well, they must be the same.
    fn linked(
        &self,
        section: &ChannelSection,
        link: &str,
        keep_files: bool,
    ) -> Result<ChannelOptions, ConfigError> {
        if section.manifest.is_some() {
            let reason = "a channel has a manifest or a link, not both";
            return Err(self.error("channel.link", reason));
        }
        let parsed: ChannelLink = self.parse("channel.link", link)?;
        let invalid = |reason: &str| self.error("channel.link", &format!("'{link}': {reason}"));
        let name = std::str::from_utf8(&parsed.salt).ok();
        let name: Option<ChannelName> = name.and_then(|name| name.parse().ok());
        let name = name.ok_or_else(|| invalid("its salt is not a channel name"))?;
        if section.name.as_ref().is_some_and(|n| n != name.as_str()) {
            return Err(invalid(&format!(
                "it is of channel {name}, name says another"
            )));
        }
        let key = match &section.key {
            Some(key) => self.parse::<PublicKey>("channel.key", key)?,
            None => PublicKey::unnamed(&parsed.key)
                .ok_or_else(|| invalid("its key is not an ed25519 key"))?,
        };
        if key.bytes() != parsed.key {
            return Err(invalid("it has another key than channel.key"));
        }
        Ok(ChannelOptions {
            name,
            key,
            source: ManifestSource::Link {
                peers: parsed.peers,
            },
            keep_releases: section.keep_releases,
            keep_files,
        })
    }
}
