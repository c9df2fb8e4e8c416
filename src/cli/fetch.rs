//! `narswarm fetch`: store paths as files, through the running agent, or through one that lives as long as this takes.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::config::{Config, Role, Size};
use crate::nix::{HashPart, StorePath};
use crate::serve::Node;

use super::args::FetchArgs;
use super::config_file;
use super::exit::{Failure, NOT_FOUND, REFUSED, UNREACHABLE};
use super::running_node::RunningNode;
use super::substituter_client::{ClientError, SubstituterClient};

pub async fn run(args: FetchArgs) -> Result<(), Failure> {
    let mut config = Config::read(&args.config, Role::Agent).map_err(config_file::unusable)?;
    let wanted = args
        .store_paths
        .iter()
        .map(|text| parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let created = fs::create_dir_all(&args.to);
    created.map_err(|error| {
        Failure::failed(format!("cannot create {}: {error}", args.to.display()))
    })?;
    let keys = config.options.keys.clone();
    let (shim, node) = match running(&config.options.state).await {
        Some(shim) => (shim, None),
        None => {
            let user = rustix::process::geteuid().as_raw();
            check_owner(&config.options.state, user)?;
            // Any free ports: nobody else is told of this agent.
            config.options.shim = ([127, 0, 0, 1], 0).into();
            config.options.swarm.listen.set_port(0);
            let node = Node::start(config.options).await.map_err(Failure::failed)?;
            (node.run_file().shim, Some(node))
        }
    };
    let client = SubstituterClient::new(shim, keys);
    let mut result = Ok(());
    for (hash_part, text) in wanted {
        if let Err(error) = fetch(&client, &hash_part, &args).await {
            result = Err(failure(text, &error));
            break;
        }
    }
    if let Some(node) = node {
        node.stop().await;
    }
    result
}

async fn fetch(
    client: &SubstituterClient,
    hash_part: &HashPart,
    args: &FetchArgs,
) -> Result<(), ClientError> {
    let narinfo = client.narinfo(hash_part).await?;
    let name = narinfo.store_path.base_name();
    let to = if args.unpack {
        args.to.join(&name)
    } else {
        args.to.join(format!("{name}.nar"))
    };
    eprintln!("fetching {name}, {}", Size(narinfo.nar_size));
    if args.unpack {
        client.unpack(&narinfo, &to).await?;
    } else {
        client.nar_file(&narinfo, &to).await?;
    }
    println!("{}", to.display());
    Ok(())
}

/// The shim of the agent that runs with this state directory.
async fn running(state: &Path) -> Option<SocketAddr> {
    let node = RunningNode::with_state(state).ok()?;
    let status = node.status().await.ok()?;
    (status["role"] == Role::Agent.as_str()).then(|| node.shim())
}

/// A service could not use its state any more once root, or anybody else, had written there.
fn check_owner(state: &Path, user: u32) -> Result<(), Failure> {
    let owner = match state.metadata() {
        Ok(metadata) if metadata.uid() == user => return Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(metadata) => format!("belongs to the user with id {}", metadata.uid()),
        Err(error) => format!("cannot be used by this user: {error}"),
    };
    let state = state.display();
    let reason = format!(
        "no agent answers, and its state {state} {owner}. Start it (systemctl start narswarm-agent), or use a \
         configuration with another `state`"
    );
    Err(Failure::new(UNREACHABLE, reason))
}

/// `/nix/store/HASH-NAME`, `HASH-NAME` or `HASH`.
fn parse(text: &str) -> Result<(HashPart, String), Failure> {
    let name = text
        .trim_end_matches('/')
        .rsplit('/')
        .next()
        .unwrap_or_default();
    let path = StorePath::parse_base_name(name).map(|path| path.hash_part());
    let hash_part = path.or_else(|error| name.parse::<HashPart>().map_err(|_| error));
    let hash_part = hash_part
        .map_err(|error| Failure::usage(format!("'{text}' is not a store path: {error}")))?;
    Ok((hash_part, text.to_owned()))
}

fn failure(text: String, error: &ClientError) -> Failure {
    let code = match error {
        ClientError::NotFound(_) | ClientError::NoNar(_) => NOT_FOUND,
        ClientError::Untrusted(_) | ClientError::NarHash(_) | ClientError::Narinfo(..) => REFUSED,
        _ => super::exit::FAILED,
    };
    Failure::new(code, format!("{text}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_another_user_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let owner = directory.path().metadata().unwrap().uid();
        check_owner(directory.path(), owner).unwrap();
        check_owner(&directory.path().join("new"), owner).unwrap();
        let refused = check_owner(directory.path(), owner + 1).unwrap_err();
        assert_eq!(refused.code, UNREACHABLE);
        assert!(
            refused.message.contains("systemctl start"),
            "{}",
            refused.message
        );
    }
}
