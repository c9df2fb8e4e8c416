//! `narswarm share`: whom this machine serves from now on, whatever its configuration says.

use std::io;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::serve::ShareFile;

use super::args::{ShareArgs, ShareChoice};
use super::exit::{Failure, UNREACHABLE};
use super::running_node::{self, RunningNode};

/// A node looks for a new choice every second.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(100);

pub async fn run(args: ShareArgs) -> Result<(), Failure> {
    let directory = running_node::directory(&args.which)?;
    let node = RunningNode::with_state(&directory);
    let Some(choice) = args.choice else {
        println!("{}", describe(&node?.status().await?));
        return Ok(());
    };
    let state = node
        .as_ref()
        .map_or(directory.as_path(), RunningNode::state);
    let file = ShareFile::new(state);
    file.write(choice.share())
        .map_err(|error| refused(&file, &error))?;
    let Ok(node) = node else {
        println!("share = {}, from the next start on", choice.as_str());
        return Ok(());
    };
    let wanted = choice.share().map(|share| Value::from(share.as_str()));
    let start = Instant::now();
    loop {
        let status = node.status().await?;
        if status["config"]["share_chosen"] == wanted.clone().unwrap_or(Value::Null) {
            println!("{}", describe(&status));
            return Ok(());
        }
        if start.elapsed() > PATIENCE {
            return Err(Failure::failed(
                "the node has not taken it over; see its log",
            ));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn refused(file: &ShareFile, error: &io::Error) -> Failure {
    let path = file.path().display();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::failed(format!(
            "cannot write {path}: {error}. A service is told by root: sudo narswarm share ..."
        )),
        io::ErrorKind::NotFound => Failure::new(
            UNREACHABLE,
            format!(
                "no agent has run here yet, so {path} cannot be written: start one, or name it with --config or --state"
            ),
        ),
        _ => Failure::failed(format!("cannot write {path}: {error}")),
    }
}

fn describe(status: &Value) -> String {
    let share = status["share"].as_str().unwrap_or("?");
    let configured = status["config"]["share"].as_str().unwrap_or("?");
    match status["config"]["share_chosen"].as_str() {
        None => format!("share = {share}, as configured"),
        Some(_) => format!(
            "share = {share} until `narswarm share {}`; configured is {configured}",
            ShareChoice::Configured.as_str()
        ),
    }
}
