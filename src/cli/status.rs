//! `narswarm status`: asks the running node, and shows a page or the JSON.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::args::StatusArgs;
use super::exit::Failure;
use super::running_node::{self, RunningNode};
use super::status_page;

const WATCH_INTERVAL: Duration = Duration::from_secs(1);
/// Home and clear, so that the page stays in its place.
const CLEAR: &str = "\x1b[H\x1b[2J";

pub async fn run(args: StatusArgs) -> Result<(), Failure> {
    let directory = running_node::directory(&args.which)?;
    let mut shown = false;
    loop {
        // A node that is restarted has a new port, perhaps.
        let answer = match RunningNode::with_state(&directory) {
            Ok(node) => node.status().await,
            Err(failure) => Err(failure),
        };
        let page = match answer {
            Ok(status) if args.json => format!("{status}\n"),
            Ok(status) => status_page::page(&status),
            // Whoever watches wants to see it come back.
            Err(failure) if shown => format!("{}\n", failure.message),
            Err(failure) => return Err(failure),
        };
        let mut stdout = std::io::stdout().lock();
        let clear = match args.watch && !args.json && stdout.is_terminal() {
            true => CLEAR,
            false => "",
        };
        let written = write!(stdout, "{clear}{page}").and_then(|()| stdout.flush());
        if written.is_err() || !args.watch {
            return Ok(());
        }
        shown = true;
        drop(stdout);
        tokio::time::sleep(WATCH_INTERVAL).await;
    }
}
