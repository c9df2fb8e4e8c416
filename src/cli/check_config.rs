//! `narswarm check-config`: checks a file, or prints one with everything that may stand there.

use std::io::Write;

use crate::config::{Config, Role};

use super::args::CheckConfigArgs;
use super::config_file;
use super::exit::Failure;

const AGENT: &str = concat!(
    include_str!("check_config/agent.toml"),
    include_str!("check_config/swarm.toml")
);
const SEEDBOX: &str = concat!(
    include_str!("check_config/seedbox.toml"),
    include_str!("check_config/swarm.toml")
);

pub fn run(args: &CheckConfigArgs) -> Result<(), Failure> {
    let role = match args.role.as_deref() {
        Some("agent") => Some(Role::Agent),
        Some(_) => Some(Role::Seedbox),
        None => None,
    };
    let Some(file) = &args.file else {
        let example = match role {
            Some(Role::Seedbox) => SEEDBOX,
            _ => AGENT,
        };
        // Whoever wanted only the beginning has closed the pipe.
        let _ = std::io::stdout().write_all(example.as_bytes());
        return Ok(());
    };
    let read = match role {
        Some(role) => Config::read(file, role),
        None => Config::read_either(file),
    };
    let options = read.map_err(config_file::unusable)?.options;
    println!(
        "{}: a good configuration of {} {}: {}, {}, share = {}, state in {}",
        file.display(),
        if options.role == Role::Agent {
            "an"
        } else {
            "a"
        },
        options.role.as_str(),
        count(options.channels.len(), "channel"),
        count(options.upstreams.len(), "upstream"),
        options.swarm.share.as_str(),
        options.state.display(),
    );
    for warning in &options.warnings {
        println!("warning: {warning}");
    }
    Ok(())
}

fn count(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn refusal(text: &str, role: Role) -> String {
        let config = Config::parse(text, Path::new("example.toml"), role);
        config
            .err()
            .map_or(String::new(), |error| error.to_string())
    }

    /// With what is commented out, but for prose.
    fn whole(example: &str) -> String {
        let plain = |line: &str| match line.strip_prefix("# ") {
            Some(bare) if bare.starts_with('[') => bare.to_owned(),
            Some(bare) if bare.split_once(" = ").is_some_and(|(key, _)| is_key(key)) => {
                bare.to_owned()
            }
            _ => line.to_owned(),
        };
        let lines: Vec<String> = example.lines().map(plain).collect();
        lines.join("\n")
    }

    fn is_key(text: &str) -> bool {
        text.chars().all(|c| c.is_ascii_lowercase() || c == '_')
    }

    #[test]
    fn the_examples_are_good_with_and_without_what_is_commented_out() {
        for (example, role) in [(AGENT, Role::Agent), (SEEDBOX, Role::Seedbox)] {
            assert_eq!(refusal(example, role), "");
            assert_eq!(refusal(&whole(example), role), "");
        }
    }

    #[test]
    fn what_is_not_commented_out_is_the_default() {
        let hold = "[hold]\nlocation = \"/srv/payloads\"";
        for (example, minimal, role) in [(AGENT, "", Role::Agent), (SEEDBOX, hold, Role::Seedbox)] {
            let swarm = |text: &str| {
                let config = Config::parse(text, Path::new("example.toml"), role);
                format!("{:?}", config.unwrap().options.swarm)
            };
            assert_eq!(swarm(example), swarm(minimal));
        }
    }

    /// Of all sections with this header, which may stand there in several forms; "" is what stands before them.
    fn keys<'a>(whole: &'a str, header: &str) -> Vec<&'a str> {
        let mut sections = whole.split("\n[");
        let top = sections.next();
        let same: Vec<&str> = match header {
            "" => top.into_iter().collect(),
            _ => sections
                .filter(|section| format!("[{section}").starts_with(header))
                .collect(),
        };
        let lines = same.into_iter().flat_map(str::lines);
        lines
            .filter_map(|line| Some(line.split_once(" = ")?.0))
            .collect()
    }

    #[test]
    fn the_examples_have_every_key() {
        for (example, role) in [(AGENT, Role::Agent), (SEEDBOX, Role::Seedbox)] {
            let whole = whole(example);
            // The parser names all keys of a section where it finds another one.
            let sections = whole.match_indices("\n[").map(|(at, _)| {
                let head = whole[at + 1..].find('\n').unwrap();
                at + 1 + head + 1
            });
            for at in [0].into_iter().chain(sections) {
                let (before, after) = whole.split_at(at);
                let said = refusal(&format!("{before}nonsense = 1\n{after}"), role);
                let (_, expected) = said
                    .split_once("expected")
                    .unwrap_or_else(|| panic!("{said}"));
                let header = before.lines().last().unwrap_or_default();
                let keys = keys(&whole, header);
                for key in expected.split('`').skip(1).step_by(2) {
                    let header = [
                        format!("[{key}]"),
                        format!("[[{key}]]"),
                        format!("[[swarm.{key}]]"),
                    ];
                    let there = keys.contains(&key)
                        || whole
                            .lines()
                            .any(|line| header.iter().any(|h| line.starts_with(h.as_str())));
                    assert!(there, "{} has no {key}: {said}", role.as_str());
                }
            }
        }
    }
}
