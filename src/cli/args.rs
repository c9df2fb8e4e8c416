//! The arguments of every command, with an example each.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::config::{Span, literal_address};
use crate::manifest::{ChannelName, TrackerUrl};
use crate::store::StoreUri;
use crate::swarm::Share;

use super::config_file;

/// A BitTorrent-based Nix substituter: seeds what is installed, straight from the store.
#[derive(Parser)]
#[command(name = "narswarm", version, about, max_term_width = 100)]
pub struct Arguments {
    /// Write log lines as JSON.
    #[arg(long, global = true)]
    pub log_json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Make a signing key, in Nix's own form.
    #[command(
        after_help = "Example: narswarm keygen nixos-unstable-1 --secret channel.sec --public channel.pub"
    )]
    Keygen(KeygenArgs),
    /// Make a signed manifest of a release: what its NARs are, and what each is as a torrent.
    #[command(
        after_help = "Example: narswarm publish --channel nixos-unstable --release 26.11pre1 \
        --secret-key channel.sec --out /srv/channel --closure /nix/var/nix/profiles/system"
    )]
    Publish(Box<PublishArgs>),
    /// Serve Nix on loopback, download from the swarm, and seed what is installed.
    #[command(after_help = "Example: narswarm agent --config /etc/narswarm/agent.toml")]
    Agent(AgentArgs),
    /// Give disk and uplink: seed payload files or a store, without Nix.
    #[command(after_help = "Example: narswarm seedbox --config /etc/narswarm/seedbox.toml")]
    Seedbox(SeedboxArgs),
    /// Fetch store paths as NARs, or unpacked, without Nix.
    #[command(
        after_help = "Example: narswarm fetch /nix/store/05xf...-hello --to ./out --unpack --config agent.toml"
    )]
    Fetch(FetchArgs),
    /// Write the canonical payload (.nar.zst) of an installed path.
    #[command(after_help = "Example: narswarm payload /nix/store/05xf...-hello -o hello.nar.zst")]
    Payload(PayloadArgs),
    /// Write the .torrent of an installed path and print its magnet link.
    #[command(after_help = "Example: narswarm torrent /nix/store/05xf...-hello -o hello.torrent")]
    Torrent(TorrentArgs),
    /// Show what the running agent or seedbox does.
    #[command(after_help = "Example: narswarm status --watch")]
    Status(StatusArgs),
    /// Say whom this machine serves, or change that at once and until further notice.
    #[command(
        after_help = "Example: narswarm share off          # on a train; `narswarm share configured` takes it back"
    )]
    Share(ShareArgs),
    /// Update Nix's channels from what the agent has verified, whoever holds its port.
    #[command(
        subcommand,
        after_help = "Example: narswarm channel update nixos-unstable --name nixos"
    )]
    Channel(ChannelCommand),
    /// Say what works from here (DNS, DHT, LSD, ports, upstreams, clock, store, nix.conf), and what to do about the rest.
    #[command(after_help = "Example: narswarm doctor --config /etc/narswarm/agent.toml")]
    Doctor(DoctorArgs),
    /// Check a configuration file and say what it means.
    #[command(after_help = "Example: narswarm check-config /etc/narswarm/agent.toml")]
    CheckConfig(CheckConfigArgs),
    /// Print a script that installs the agent on a machine with Nix and systemd but without NixOS: units, nix.conf lines.
    #[command(after_help = "Example: narswarm setup > setup.sh; less setup.sh; sudo sh setup.sh")]
    Setup(SetupArgs),
    /// Print the completions of a shell.
    #[command(
        after_help = "Example: narswarm completions bash > ~/.local/share/bash-completion/completions/narswarm"
    )]
    Completions(CompletionsArgs),
    /// Print the manual in roff, or write a page for each command.
    #[command(after_help = "Example: narswarm man | man -l -")]
    Man(ManArgs),
    /// Show the whole thing on this machine: publish, seed, substitute, without any name look-up.
    #[command(after_help = "Example: cargo run --release -- demo")]
    Demo(DemoArgs),
}

#[derive(Args)]
pub struct KeygenArgs {
    /// The key's name, for example nixos-unstable-1.
    pub name: String,
    /// Where to write the secret key (mode 0600; never overwritten).
    #[arg(long, value_name = "FILE")]
    pub secret: PathBuf,
    /// Where to write the public key.
    #[arg(long, value_name = "FILE")]
    pub public: PathBuf,
}

#[derive(Args)]
#[command(group = ArgGroup::new("paths").required(true).args(["closure", "store_paths"]))]
pub struct PublishArgs {
    /// The channel's name, for example nixos-unstable; it and the key are the channel.
    #[arg(long)]
    pub channel: ChannelName,
    /// The release's name, for example 26.11pre812345.
    #[arg(long)]
    pub release: String,
    /// Signs header and pointer (made by `narswarm keygen`).
    #[arg(long, value_name = "FILE")]
    pub secret_key: PathBuf,
    /// The directory to write to; an earlier release in it becomes the predecessor.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Publish the closure of these store paths, or of what profile links point to.
    #[arg(long, value_name = "PATH", num_args = 1..)]
    pub closure: Vec<PathBuf>,
    /// Publish the closure of the store paths listed in a file, one a line.
    #[arg(long, value_name = "FILE")]
    pub store_paths: Option<PathBuf>,
    /// Where the paths are: local, local?root=DIR, file:///dir or http(s)://host.
    #[arg(long, value_name = "STORE", default_value = "local")]
    pub from: StoreUri,
    /// A release file to publish along, for example nixexprs.tar.xz; to be given for each release.
    #[arg(long = "file", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Signs paths that have no signature; without it they are refused.
    #[arg(long, value_name = "FILE")]
    pub narinfo_key: Option<PathBuf>,
    /// The predecessor, when it is not in --out.
    #[arg(long, value_name = "DIR")]
    pub previous: Option<PathBuf>,
    /// The system of these paths; this machine's by default.
    #[arg(long)]
    pub system: Option<String>,
    /// Also write every payload there, for a seedbox that has no store.
    #[arg(long, value_name = "DIR")]
    pub payloads: Option<PathBuf>,
    /// Address of a seedbox, put into the manifest and the links; to be given for each release.
    #[arg(long = "seedbox", value_name = "IP:PORT", value_parser = literal_address)]
    pub seedboxes: Vec<SocketAddr>,
    /// A tracker with a literal address, put into the manifest; to be given for each release.
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<TrackerUrl>,
    /// A DHT node with a literal address, put into the manifest and used by --announce; without it the well-known ones.
    #[arg(long = "bootstrap", value_name = "IP:PORT", value_parser = literal_address)]
    pub bootstrap: Vec<SocketAddr>,
    /// Put the channel's pointer into the DHT now; agents and seedboxes that follow the channel keep it there.
    #[arg(long)]
    pub announce: bool,
    /// After this the release is shown as stale.
    #[arg(long, value_name = "DURATION", default_value = "30d")]
    pub lifetime: Span,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct AgentArgs {
    /// What to follow, whom to ask and whom to serve; `check-config --example` shows one.
    #[arg(long, value_name = "FILE", default_value = config_file::AGENT)]
    pub config: PathBuf,
}

#[derive(Args)]
pub struct SeedboxArgs {
    /// What to hold and to follow; `check-config --example --role seedbox` shows one.
    #[arg(long, value_name = "FILE", default_value = config_file::SEEDBOX)]
    pub config: PathBuf,
}

#[derive(Args)]
pub struct FetchArgs {
    /// Store paths, with or without the store directory.
    #[arg(value_name = "STORE-PATH", required = true)]
    pub store_paths: Vec<String>,
    /// The directory to write to.
    #[arg(long, value_name = "DIR")]
    pub to: PathBuf,
    /// Unpack the NARs instead of keeping them as files.
    #[arg(long)]
    pub unpack: bool,
    /// The agent's configuration; a running agent is asked, else one runs for as long as this takes.
    #[arg(long, value_name = "FILE", default_value = config_file::AGENT)]
    pub config: PathBuf,
}

#[derive(Args)]
pub struct PayloadArgs {
    /// An installed store path; with a chroot store, its path on disk.
    #[arg(value_name = "STORE-PATH")]
    pub store_path: PathBuf,
    /// The file to write; <NarHash>.nar.zst by default, `-` is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The store that the path is in: local, local?root=DIR or DIR.
    #[arg(long, value_name = "STORE", default_value = "local")]
    pub store: StoreUri,
}

#[derive(Args)]
pub struct TorrentArgs {
    /// An installed store path; with a chroot store, its path on disk.
    #[arg(value_name = "STORE-PATH")]
    pub store_path: PathBuf,
    /// The file to write; <NarHash>.nar.zst.torrent by default, `-` is stdout.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The store that the path is in: local, local?root=DIR or DIR.
    #[arg(long, value_name = "STORE", default_value = "local")]
    pub store: StoreUri,
    /// A peer to name in the magnet link.
    #[arg(long = "peer", value_name = "IP:PORT", value_parser = literal_address)]
    pub peers: Vec<SocketAddr>,
    /// A tracker to name in both.
    #[arg(long = "tracker", value_name = "URL")]
    pub trackers: Vec<String>,
}

#[derive(Args)]
pub struct StatusArgs {
    /// Print the whole status as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show it again every second.
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub which: WhichNode,
}

#[derive(Args)]
pub struct ShareArgs {
    /// Nobody, this machine's own networks, everybody, or what the configuration says.
    #[arg(value_enum)]
    pub choice: Option<ShareChoice>,
    #[command(flatten)]
    pub which: WhichNode,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ShareChoice {
    Off,
    Lan,
    Public,
    Configured,
}

impl ShareChoice {
    pub fn share(self) -> Option<Share> {
        match self {
            Self::Off => Some(Share::Off),
            Self::Lan => Some(Share::Lan),
            Self::Public => Some(Share::Public),
            Self::Configured => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        self.share().map_or("configured", Share::as_str)
    }
}

/// Of several nodes on one machine, one.
#[derive(Args)]
pub struct WhichNode {
    /// The node with this configuration.
    #[arg(long, value_name = "FILE", conflicts_with = "state")]
    pub config: Option<PathBuf>,
    /// The node with this state directory ($STATE_DIRECTORY or /var/lib/narswarm by default).
    #[arg(long, value_name = "DIR")]
    pub state: Option<PathBuf>,
}

#[derive(Subcommand)]
pub enum ChannelCommand {
    /// Install a channel's newest nixexprs into a profile, as `nix-channel --update` does.
    #[command(
        after_help = "Example: narswarm channel update nixos-unstable --name nixos\n\nEvaluating it trusts the \
        channel's publisher. The agent must run with [shim] expressions = true, which keeps release files; the file is \
        taken from the agent's state directory and checked against the channel key in the configuration."
    )]
    Update(ChannelUpdateArgs),
}

#[derive(Args)]
pub struct ChannelUpdateArgs {
    /// The channel; the only one of the configuration by default.
    pub channel: Option<ChannelName>,
    /// What expressions call it, as in <nixos>; the channel's own name by default.
    #[arg(long)]
    pub name: Option<ChannelName>,
    /// The profile; that of `nix-channel` for this user by default.
    #[arg(long, value_name = "PATH")]
    pub profile: Option<PathBuf>,
    /// Do not run Nix: print where the verified file lies.
    #[arg(long, conflicts_with_all = ["name", "profile"])]
    pub print: bool,
    /// The agent's configuration.
    #[arg(long, value_name = "FILE", default_value = config_file::AGENT)]
    pub config: PathBuf,
}

#[derive(Args)]
pub struct DoctorArgs {
    /// The agent's or seedbox's configuration.
    #[arg(long, value_name = "FILE", default_value = config_file::AGENT)]
    pub config: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
pub struct CheckConfigArgs {
    /// The agent.toml or seedbox.toml to check.
    #[arg(value_name = "FILE", required_unless_present = "example")]
    pub file: Option<PathBuf>,
    /// Print a file with every key, its default and what it means, instead of checking one.
    #[arg(long, conflicts_with = "file")]
    pub example: bool,
    /// Whose configuration it is; found out when not given, an agent's as --example.
    #[arg(long, value_name = "ROLE", value_parser = ["agent", "seedbox"])]
    pub role: Option<String>,
}

#[derive(Args)]
pub struct SetupArgs {
    /// The configuration that the unit will use.
    #[arg(long, value_name = "FILE", default_value = config_file::AGENT)]
    pub config: PathBuf,
    /// Print the script that takes all of it back.
    #[arg(long)]
    pub remove: bool,
}

#[derive(Args)]
pub struct CompletionsArgs {
    /// The shell that is to complete.
    pub shell: Shell,
}

#[derive(Args)]
pub struct ManArgs {
    /// Write narswarm.1, narswarm-agent.1 and so on into this directory.
    #[arg(long, value_name = "DIR")]
    pub to: Option<PathBuf>,
}

#[derive(Args)]
pub struct DemoArgs {
    /// How much content to publish, about.
    #[arg(long, value_name = "SIZE", default_value = "100MB")]
    pub size: crate::config::Size,
    /// Do not use an installed Nix, but the built-in client.
    #[arg(long)]
    pub without_nix: bool,
    /// Keep the directory of the demo and print its path.
    #[arg(long)]
    pub keep: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn all(command: &clap::Command) -> Vec<&clap::Command> {
        let below = command.get_subcommands().flat_map(all);
        [command].into_iter().chain(below).collect()
    }

    #[test]
    fn every_command_has_an_example_and_every_argument_is_explained() {
        let program = Arguments::command();
        for command in program.get_subcommands().flat_map(all) {
            let name = command.get_name();
            let example = command.get_after_help().map(ToString::to_string);
            let example = example.unwrap_or_default();
            assert!(example.starts_with("Example: "), "{name}: {example:?}");
            assert!(command.get_about().is_some(), "{name}");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {argument}");
            }
        }
    }
}
