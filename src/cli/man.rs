//! `narswarm man`: the manual, made from the arguments.

use std::fs;
use std::io::{self, Write};

use clap::CommandFactory;
use clap_mangen::Man;

use super::args::{Arguments, ManArgs};
use super::exit::Failure;

pub fn run(args: &ManArgs) -> Result<(), Failure> {
    let command = Arguments::command();
    match &args.to {
        Some(directory) => fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(command, directory))
            .map_err(|error| {
                Failure::failed(format!("cannot write to {}: {error}", directory.display()))
            }),
        None => {
            let mut text = Vec::new();
            Man::new(command)
                .render(&mut text)
                .map_err(Failure::failed)?;
            // Whoever wanted only the beginning has closed the pipe.
            let _ = io::stdout().write_all(&text);
            Ok(())
        }
    }
}
