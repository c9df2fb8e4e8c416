//! `narswarm completions SHELL`.

use std::io::{self, Write};

use clap::CommandFactory;

use super::args::{Arguments, CompletionsArgs};

pub fn run(args: &CompletionsArgs) {
    let (mut command, mut text) = (Arguments::command(), Vec::new());
    clap_complete::generate(args.shell, &mut command, "narswarm", &mut text);
    // Whoever wanted only the beginning has closed the pipe.
    let _ = io::stdout().write_all(&text);
}
