//! `narswarm setup`: a script for a machine with Nix but without NixOS, to read and to run. It makes what the NixOS module
//! makes; `tests/module/setup.rs` compares the units of both.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::config::{Config, Role};

use super::args::SetupArgs;
use super::exit::Failure;

const INSTALL: &str = include_str!("setup/install.sh");
const REMOVE: &str = include_str!("setup/remove.sh");
const SERVICE: &str = include_str!("setup/narswarm-agent.service");
const SOCKET: &str = include_str!("setup/narswarm-agent.socket");
/// The configuration to begin with.
const CONFIG: &str = include_str!("setup/agent.toml");
/// A program in a home directory is hidden from the service, and one that cargo made is gone after `cargo clean`.
const PROGRAM: &str = "/usr/local/bin/narswarm";
/// Keeps a program that Nix built from being collected.
const GC_ROOT: &str = "/nix/var/nix/gcroots/narswarm";

/// What the templates leave open.
struct Setup {
    shim: String,
    /// For those who go past a broken agent.
    upstreams: Vec<String>,
    program: String,
    install: String,
    uninstall: String,
    config: String,
}

pub fn run(args: &SetupArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let setup = Setup::new(&program, &args.config)?;
    let text = match args.remove {
        true => setup.fill(REMOVE),
        false => setup.fill(INSTALL),
    };
    // Whoever wanted only the beginning has closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    Ok(())
}

impl Setup {
    fn new(program: &Path, config: &Path) -> Result<Self, Failure> {
        let config = std::path::absolute(config).map_err(Failure::usage)?;
        let directory = tempfile::tempdir().map_err(Failure::failed)?;
        let read = match config.exists() {
            true => Config::read(&config, Role::Agent),
            // What it will be.
            false => {
                let file = directory.path().join("agent.toml");
                fs::write(&file, CONFIG).map_err(Failure::failed)?;
                Config::read(&file, Role::Agent)
            }
        };
        let options = read.map_err(Failure::usage)?.options;
        let program = word(program)?;
        let (install, uninstall, program) = match program.starts_with("/nix/store/") {
            true => (
                format!("nix-store --realise --add-root {GC_ROOT} {program} > /dev/null"),
                format!("rm -f {GC_ROOT}"),
                program,
            ),
            false => (
                format!("[ {program} -ef {PROGRAM} ] || install -m 755 {program} {PROGRAM}"),
                format!("rm -f {PROGRAM}"),
                PROGRAM.to_owned(),
            ),
        };
        Ok(Self {
            shim: options.shim.to_string(),
            upstreams: options
                .upstreams
                .iter()
                .map(|upstream| upstream.url.to_string())
                .collect(),
            program,
            install,
            uninstall,
            config: word(&config)?,
        })
    }

    fn fill(&self, template: &str) -> String {
        let directory = Path::new(&self.config).parent().unwrap_or(Path::new("/"));
        let nix_conf = format!(
            "substituters = http://{}\nnarinfo-cache-negative-ttl = 60\ntrusted-substituters = {}\n",
            self.shim,
            self.upstreams.join(" ")
        );
        // The files first: they hold placeholders as well.
        template
            .replace("@CONFIG_TEXT@", CONFIG)
            .replace("@SOCKET@", SOCKET)
            .replace("@SERVICE@", SERVICE)
            .replace("@NIX_CONF@", &nix_conf)
            .replace("@INSTALL@", &self.install)
            .replace("@UNINSTALL@", &self.uninstall)
            .replace("@CONFIG_DIRECTORY@", &directory.to_string_lossy())
            .replace("@CONFIG@", &self.config)
            .replace("@PROGRAM@", &self.program)
            .replace("@SHIM@", &self.shim)
    }
}

/// A path that is one word to a shell and to systemd, without any quoting.
fn word(path: &Path) -> Result<String, Failure> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+".contains(c);
    let text = path.to_str().filter(|text| text.chars().all(plain));
    let refused = || {
        format!(
            "{} has characters that a shell or systemd would change",
            path.display()
        )
    };
    text.map(str::to_owned)
        .ok_or_else(|| Failure::usage(refused()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setup(program: &str, config: &str) -> Result<Setup, Failure> {
        Setup::new(Path::new(program), Path::new(config))
    }

    #[test]
    fn nothing_is_left_open() {
        for program in ["/opt/bin/narswarm", "/nix/store/05xf-narswarm/bin/narswarm"] {
            let setup = setup(program, "/etc/narswarm/missing.toml").unwrap();
            for text in [setup.fill(INSTALL), setup.fill(REMOVE)] {
                // systemd's own begin with a small letter.
                let open = text
                    .match_indices('@')
                    .find(|(at, _)| text[at + 1..].starts_with(|c: char| c.is_ascii_uppercase()));
                assert_eq!(open, None, "{text}");
            }
        }
    }

    #[test]
    fn a_service_sees_its_program() {
        let cargo = setup("/root/.cargo/bin/narswarm", "/etc/a.toml")
            .unwrap()
            .fill(INSTALL);
        assert!(cargo.contains("install -m 755 /root/.cargo/bin/narswarm /usr/local/bin/narswarm"));
        assert!(cargo.contains("\nExecStart=/usr/local/bin/narswarm agent --config /etc/a.toml\n"));
        assert!(cargo.contains("\nListenStream=127.0.0.1:8642\n"));
        assert!(cargo.contains("\ntrusted-substituters = https://cache.nixos.org/\n"));
        let nix = setup("/nix/store/05xf-n/bin/narswarm", "/etc/a.toml")
            .unwrap()
            .fill(INSTALL);
        assert!(nix.contains("--add-root"));
        assert!(nix.contains("\nExecStart=/nix/store/05xf-n/bin/narswarm agent"));
    }

    #[test]
    fn odd_paths_are_refused() {
        for odd in ["/etc/a b.toml", "/etc/$(x).toml", "/etc/'.toml"] {
            assert!(setup("/usr/bin/narswarm", odd).is_err(), "{odd}");
        }
    }
}
