//! The command line: one file per command, and the exit codes that they share.

mod agent;
mod args;
mod channel;
mod check_config;
mod completions;
mod config_file;
mod demo;
mod doctor;
mod exit;
mod fetch;
mod keygen;
mod local_path;
mod man;
mod nix_conf;
mod node;
mod open_files;
mod payload;
mod progress;
mod proxy;
mod publish;
mod running_node;
mod seedbox;
mod setup;
mod share;
mod status;
mod status_page;
mod substituter_client;
mod systemd;
mod torrent;

use std::io::IsTerminal;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use args::{Arguments, Command};

/// Parses the arguments, runs the command, and says on stderr what went wrong.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    log(&arguments);
    if matches!(
        arguments.command,
        Command::Agent(_) | Command::Seedbox(_) | Command::Fetch(_) | Command::Demo(_)
    ) {
        proxy::exempt_loopback();
    }
    open_files::raise_limit();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return exit::FAILED.into();
        }
    };
    let result = runtime.block_on(async {
        match arguments.command {
            Command::Keygen(args) => keygen::run(&args),
            Command::Publish(args) => publish::run(*args).await,
            Command::Agent(args) => agent::run(&args).await,
            Command::Seedbox(args) => seedbox::run(&args).await,
            Command::Fetch(args) => fetch::run(args).await,
            Command::Payload(args) => payload::run(args).await,
            Command::Torrent(args) => torrent::run(args).await,
            Command::Status(args) => status::run(args).await,
            Command::Share(args) => share::run(args).await,
            Command::Channel(command) => channel::run(&command).await,
            Command::Doctor(args) => doctor::run(&args).await,
            Command::CheckConfig(args) => check_config::run(&args),
            Command::Setup(args) => setup::run(&args),
            Command::Completions(args) => {
                completions::run(&args);
                Ok(())
            }
            Command::Man(args) => man::run(&args),
            Command::Demo(args) => demo::run(args).await,
        }
    });
    // A name look-up or a disk that hangs must not keep the program.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("error: {}", failure.message);
            failure.code.into()
        }
    }
}

/// Logs go to stderr; `RUST_LOG` chooses what, warnings and our own news by default. Demo and doctor tell their own story.
fn log(arguments: &Arguments) {
    let default = match arguments.command {
        Command::Demo(_) | Command::Doctor(_) => "error,librqbit=off,mainline=off",
        _ => "warn,narswarm=info,librqbit=off,mainline=off",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    if arguments.log_json {
        builder.json().init();
    } else {
        builder.init();
    }
}
