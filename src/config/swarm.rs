//! The section `[swarm]`: bounds on what a file may say, and what it means for each role.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::serve::Role;
use crate::swarm::{DiscoveryOptions, Recreation, ScheduledLimit, SwarmOptions, UploadLimits};

use super::address::literal_address;
use super::node::{Checker, ConfigError};
use super::sections::{ScheduleSection, SwarmSection};
use super::units::Rate;

/// Topic connections of a channel: an agent looks up rows among so many and their neighbours.
const AGENT_NEIGHBOURS: usize = 16;
/// A seedbox knows what many have, and is asked for it.
const SEEDBOX_NEIGHBOURS: usize = 200;
/// Each neighbour costs a connection, and a bit for each row of the channel.
const MAX_NEIGHBOURS: usize = 2000;
/// The nicest that Linux knows.
const MAX_NICE: u8 = 19;
/// A block takes 16 s at this rate.
const MIN_UPLOAD_RATE: u64 = 1000;

impl Checker<'_> {
    pub(super) fn warn_of_swarm(&self, swarm: &SwarmSection, warnings: &mut Vec<String>) {
        if swarm.upnp && swarm.share != "public" {
            warnings.push("swarm.upnp: not used unless share = \"public\"".to_owned());
        }
        if !swarm.bootstrap.is_empty() && !swarm.dht {
            warnings.push("swarm.bootstrap: not used with dht = false".to_owned());
        }
    }

    pub(super) fn swarm(
        &self,
        role: Role,
        section: &SwarmSection,
        state: &Path,
        cache_size: u64,
        hold: Option<PathBuf>,
    ) -> Result<SwarmOptions, ConfigError> {
        let seedbox = role == Role::Seedbox || hold.is_some();
        let neighbours = section.neighbours.unwrap_or(match seedbox {
            true => SEEDBOX_NEIGHBOURS,
            false => AGENT_NEIGHBOURS,
        });
        if neighbours > MAX_NEIGHBOURS {
            let reason = format!("{neighbours} are more than {MAX_NEIGHBOURS}");
            return Err(self.error("swarm.neighbours", &reason));
        }
        if section.recreate_nice > MAX_NICE {
            let reason = format!("{} is not within 0 and {MAX_NICE}", section.recreate_nice);
            return Err(self.error("swarm.recreate_nice", &reason));
        }
        Ok(SwarmOptions {
            listen: section.listen,
            share: self.parse("swarm.share", &section.share)?,
            networks: self.parse_all("swarm.networks", &section.networks)?,
            upload_limits: UploadLimits {
                total: Some(self.rate("swarm.upload_limit", section.upload_limit)?),
                per_peer: section
                    .peer_upload_limit
                    .map(|limit| self.rate("swarm.peer_upload_limit", limit))
                    .transpose()?,
                schedule: self.schedule(&section.schedule)?,
            },
            upload_slots: self.at_least_one("swarm.upload_slots", section.upload_slots)?,
            recreation: Recreation {
                threads: section
                    .recreate_threads
                    .map(|threads| self.at_least_one("swarm.recreate_threads", threads))
                    .transpose()?,
                nice: section.recreate_nice,
            },
            connections: self.at_least_one("swarm.connections", section.connections)?,
            peers: self.addresses("swarm.peers", &section.peers)?,
            trackers: self.parse_all("swarm.trackers", &section.trackers)?,
            discovery: DiscoveryOptions {
                dht: section.dht,
                bootstrap: self.addresses("swarm.bootstrap", &section.bootstrap)?,
                lsd: section.lsd,
                upnp: section.upnp,
            },
            neighbours,
            seedbox,
            state: state.to_owned(),
            cache: cache_directory(state),
            cache_size,
            hold,
        })
    }

    fn schedule(&self, sections: &[ScheduleSection]) -> Result<Vec<ScheduledLimit>, ConfigError> {
        let limits = sections.iter().map(|section| {
            Ok(ScheduledLimit {
                from: self.parse("swarm.schedule.from", &section.from)?,
                to: self.parse("swarm.schedule.to", &section.to)?,
                total: self.rate("swarm.schedule.upload_limit", section.upload_limit)?,
            })
        });
        limits.collect()
    }

    fn rate(&self, key: &str, rate: Rate) -> Result<u64, ConfigError> {
        match rate.0 < MIN_UPLOAD_RATE {
            true => Err(self.error(
                key,
                "is below 1kB/s, at which nothing arrives: share = \"off\" gives nothing",
            )),
            false => Ok(rate.0),
        }
    }

    fn at_least_one(&self, key: &str, number: usize) -> Result<usize, ConfigError> {
        match number {
            0 => Err(self.error(key, "0 is not enough: at least 1")),
            _ => Ok(number),
        }
    }

    fn addresses(&self, key: &str, texts: &[String]) -> Result<Vec<SocketAddr>, ConfigError> {
        let address = |text: &String| {
            literal_address(text).map_err(|error| self.error(key, &format!("'{text}': {error}")))
        };
        texts.iter().map(address).collect()
    }
}

/// systemd's cache directory, where there is one: it may be removed without loss.
fn cache_directory(state: &Path) -> PathBuf {
    let systemd = std::env::var_os("CACHE_DIRECTORY").map(PathBuf::from);
    systemd.unwrap_or_else(|| state.join("cache"))
}
