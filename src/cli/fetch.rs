//! `narswarm fetch`: store paths as files, through the running agent, or through one that lives as long as this takes.

use std::fs;
use std::net::SocketAddr;

use crate::config::{Config, Role, Size};
use crate::nix::{HashPart, StorePath};
use crate::serve::{Node, RunFile};

use super::args::FetchArgs;
use super::exit::{Failure, NOT_FOUND, REFUSED};
use super::substituter_client::{ClientError, SubstituterClient};

pub async fn run(args: FetchArgs) -> Result<(), Failure> {
    let mut config = Config::read(&args.config, Role::Agent).map_err(Failure::usage)?;
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
    let (shim, node) = match running(&config).await {
        Some(shim) => (shim, None),
        None => {
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

/// The shim of an agent that runs with this configuration.
async fn running(config: &Config) -> Option<SocketAddr> {
    let run_file = RunFile::read(&config.options.state).ok()?;
    let probe = reqwest::Client::builder().no_proxy().build().ok()?;
    let answer = probe
        .get(format!("http://{}/nix-cache-info", run_file.shim))
        .send()
        .await
        .ok()?;
    answer.status().is_success().then_some(run_file.shim)
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
