//! `narswarm channel update`: what `nix-channel --update` does, from a file that was verified in this process.
//!
//! The file lies in the agent's state directory. Here its manifest is verified again with the key of the configuration,
//! and the file with the manifest's SHA-256: who answers on the shim's port does not matter.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::catalog::{Release, Shelf, ShelfError};
use crate::config::{Config, Role};
use crate::follow::ChannelOptions;
use crate::manifest::ChannelName;

use super::args::{ChannelCommand, ChannelUpdateArgs};
use super::config_file;
use super::exit::{Failure, NOT_FOUND, REFUSED};

/// What `nix-channel` looks for, in this order.
const EXPRESSIONS: [&str; 2] = ["nixexprs.tar.xz", "nixexprs.tar.bz2"];
/// Where `nix-channel` keeps its profiles.
const PROFILES: &str = "/nix/var/nix/profiles/per-user";
/// Nix's own builder of a channel from its tarball.
const UNPACK: &str = "builtin:unpack-channel";

pub async fn run(command: &ChannelCommand) -> Result<(), Failure> {
    match command {
        ChannelCommand::Update(args) => update(args).await,
    }
}

async fn update(args: &ChannelUpdateArgs) -> Result<(), Failure> {
    let config = Config::read(&args.config, Role::Agent).map_err(config_file::unusable)?;
    let channel = choose(args, &config.options.channels)?;
    let (release, file) = verified(&config.options.state, channel)?;
    if args.print {
        println!("{}", file.display());
        return Ok(());
    }
    let name = args.name.as_ref().unwrap_or(&channel.name).to_string();
    let profile = match &args.profile {
        Some(profile) => profile.clone(),
        None => default_profile()?,
    };
    let title = release.header().release.clone();
    let add = [Path::new("--add-fixed"), Path::new("sha256"), &file];
    let source = nix("nix-store", &add).await?;
    let source = source.trim();
    // Without a version in its name it takes the place of the release before, and of what `nix-channel` installed.
    let expression = format!(
        "derivation {{ name = \"{name}\"; channelName = \"{name}\"; src = builtins.storePath \"{source}\"; \
         system = \"builtin\"; builder = \"{UNPACK}\"; preferLocalBuild = true; }}"
    );
    let build = ["--no-out-link", "--expr", &expression].map(Path::new);
    let built = nix("nix-build", &build).await?;
    let install = [
        Path::new("--profile"),
        &profile,
        Path::new("--install"),
        Path::new(built.trim()),
    ];
    nix("nix-env", &install).await?;
    println!("{name}: {} {title}, in {}", channel.name, profile.display());
    Ok(())
}

fn choose<'a>(
    args: &ChannelUpdateArgs,
    channels: &'a [ChannelOptions],
) -> Result<&'a ChannelOptions, Failure> {
    let mut fitting = channels.iter().filter(|channel| {
        args.channel
            .as_ref()
            .is_none_or(|name| *name == channel.name)
    });
    match (fitting.next(), fitting.next()) {
        (Some(channel), None) => Ok(channel),
        (Some(one), Some(other)) => Err(Failure::usage(format!(
            "{} and {} fit: say which channel",
            one.name, other.name
        ))),
        (None, _) => Err(Failure::usage(match &args.channel {
            Some(name) => format!("{} does not follow {name}", args.config.display()),
            None => format!("{} follows no channel", args.config.display()),
        })),
    }
}

/// The newest kept release of the channel, and its expressions on disk.
fn verified(state: &Path, channel: &ChannelOptions) -> Result<(Release, PathBuf), Failure> {
    let (name, key) = (channel.name.clone(), channel.key.clone());
    let shelf = Shelf::of_another(state, name, key, channel.keep_releases);
    let cannot_read = |error| unreadable(&channel.name, &error);
    let name = &channel.name;
    let Some(release) = shelf.load(&[]).map_err(cannot_read)?.into_iter().next() else {
        let absent = format!("no release of {name} is here yet");
        return Err(match shelf.newest_manifest().map_err(cannot_read)? {
            Some(path) => unusable(
                &path,
                "a manifest signed by the channel's key, with all its layers",
                absent,
            ),
            None => Failure::new(NOT_FOUND, absent),
        });
    };
    let header = release.header();
    let title = &header.release;
    let listed = EXPRESSIONS
        .iter()
        .find_map(|name| header.files.iter().find(|file| file.name == *name));
    let Some(listed) = listed else {
        let message = format!("{name} {title} lists no {}", EXPRESSIONS[0]);
        return Err(Failure::new(NOT_FOUND, message));
    };
    if let Some((_, path)) = release.release_file(&listed.name) {
        let path = path.to_owned();
        return Ok((release, path));
    }
    let absent = format!(
        "{} of {name} {title} was not fetched yet: the agent fetches release files with [shim] expressions = true",
        listed.name
    );
    let what = format!("the {} that the manifest lists", listed.name);
    Err(unusable(&shelf.file_path(listed), &what, absent))
}

/// Why a file of the agent's does not count: it cannot be read, it is another one, or it is not there.
fn unusable(path: &Path, what: &str, absent: String) -> Failure {
    let at = path.display();
    match File::open(path) {
        Ok(_) => Failure::new(
            REFUSED,
            format!("{at} is not {what}: restart the agent, which fetches it again"),
        ),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Failure::new(NOT_FOUND, absent),
        Err(error) => {
            let remedy = match error.kind() {
                io::ErrorKind::PermissionDenied => ": run this as root",
                _ => "",
            };
            Failure::failed(format!("cannot read {at}: {error}{remedy}"))
        }
    }
}

/// A service's state is closed to everybody but root.
fn unreadable(channel: &ChannelName, error: &ShelfError) -> Failure {
    match error {
        ShelfError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
            Failure::failed(format!("{error}: run this as root"))
        }
        _ => Failure::new(
            NOT_FOUND,
            format!("no agent has followed {channel} here: {error}"),
        ),
    }
}

fn default_profile() -> Result<PathBuf, Failure> {
    let user = std::env::var("USER").ok().filter(|user| !user.is_empty());
    let user = user.ok_or_else(|| Failure::usage("USER is not set: name the --profile"))?;
    Ok(Path::new(PROFILES).join(user).join("channels"))
}

/// Runs one of Nix's programs; its errors go to the terminal as they are.
async fn nix(program: &str, arguments: &[&Path]) -> Result<String, Failure> {
    let failed = |error| Failure::failed(format!("cannot run {program}: {error}"));
    let mut command = Command::new(program);
    command.args(arguments).stdout(Stdio::piped());
    let running = command.spawn().map_err(failed)?;
    let output = running.wait_with_output().await.map_err(failed)?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Failure::failed(format!(
            "{program} failed: {}",
            output.status
        ))),
    }
}
