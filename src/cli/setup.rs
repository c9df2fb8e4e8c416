//! `narswarm setup`: a script for a machine with Nix but without NixOS, to read and to run. It makes what the NixOS module
//! makes; `tests/module/setup.rs` compares the units of both.

use std::io::Write;
use std::path::Path;

use crate::config::{Config, Role};

use super::args::SetupArgs;
use super::config_file;
use super::exit::Failure;
use super::nix_conf::NixConf;

const INSTALL: &str = include_str!("setup/install.sh");
const REMOVE: &str = include_str!("setup/remove.sh");
/// Whoever pipes us into a shell runs this when there is nothing to run.
const REFUSED: &str = include_str!("setup/refused.sh");
const SERVICE: &str = include_str!("setup/narswarm-agent.service");
const SOCKET: &str = include_str!("setup/narswarm-agent.socket");
/// The configuration to begin with.
pub const CONFIG: &str = include_str!("setup/agent.toml");
/// A program in a home directory is hidden from the service, and one that cargo made is gone after `cargo clean`.
const PROGRAM: &str = "/usr/local/bin/narswarm";
/// Keeps a program that Nix built from being collected.
const GC_ROOT: &str = "/nix/var/nix/gcroots/narswarm";
/// The one that the script changes.
const NIX_CONF: &str = "/etc/nix/nix.conf";

/// Where things are, which is all that removing them needs.
struct Places {
    /// The program that runs now.
    source: String,
    /// The one that the service runs.
    program: String,
    install: String,
    uninstall: String,
    config: String,
}

/// What nix.conf is to say, by the configuration.
struct Substituter {
    shim: String,
    /// For those who go past a broken agent.
    upstreams: Vec<String>,
    /// Caches that nix.conf has named so far and that nobody will ask.
    dropped: Vec<String>,
}

pub fn run(args: &SetupArgs) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(Failure::failed)?;
    let script = match args.remove {
        true => Places::new(&program, &args.config).map(|places| places.fill(REMOVE)),
        false => install(&program, &args.config, Path::new(NIX_CONF)),
    };
    let text = match &script {
        Ok(script) => script.clone(),
        Err(failure) => refused(&failure.message),
    };
    // Whoever wanted only the beginning has closed the pipe.
    let _ = std::io::stdout().write_all(text.as_bytes());
    script.map(drop)
}

fn install(program: &Path, config: &Path, nix_conf: &Path) -> Result<String, Failure> {
    let places = Places::new(program, config)?;
    let substituter = Substituter::new(config, nix_conf)?;
    // The files first: they hold placeholders as well.
    let script = INSTALL
        .replace("@CONFIG_TEXT@", CONFIG)
        .replace("@SOCKET@", SOCKET)
        .replace("@SERVICE@", SERVICE);
    Ok(places
        .fill(&script)
        .replace("@SHIM@", &substituter.shim)
        .replace("@NIX_CONF@", &substituter.nix_conf())
        .replace("@NOTES@", &substituter.notes(&places.config)))
}

fn refused(reason: &str) -> String {
    // So that no line of it can end the text.
    let lines: Vec<String> = reason
        .lines()
        .map(|line| format!("narswarm setup: {line}\n"))
        .collect();
    REFUSED.replace("@REASON@", &lines.concat())
}

impl Places {
    fn new(program: &Path, config: &Path) -> Result<Self, Failure> {
        let config = std::path::absolute(config).map_err(Failure::usage)?;
        let source = word(program)?;
        let (install, uninstall, program) = match source.starts_with("/nix/store/") {
            true => (
                format!("nix-store --realise --add-root {GC_ROOT} {source} > /dev/null"),
                format!("rm -f {GC_ROOT}"),
                source.clone(),
            ),
            false => (
                format!("[ {source} -ef {PROGRAM} ] || install -m 755 {source} {PROGRAM}"),
                format!("rm -f {PROGRAM}"),
                PROGRAM.to_owned(),
            ),
        };
        Ok(Self {
            source,
            program,
            install,
            uninstall,
            config: word(&config)?,
        })
    }

    fn fill(&self, template: &str) -> String {
        let directory = Path::new(&self.config).parent().unwrap_or(Path::new("/"));
        template
            .replace("@INSTALL@", &self.install)
            .replace("@UNINSTALL@", &self.uninstall)
            .replace("@CONFIG_DIRECTORY@", &directory.to_string_lossy())
            .replace("@CONFIG@", &self.config)
            .replace("@SOURCE@", &self.source)
            .replace("@PROGRAM@", &self.program)
    }
}

impl Substituter {
    fn new(config: &Path, nix_conf: &Path) -> Result<Self, Failure> {
        let read = match config.exists() {
            true => Config::read(config, Role::Agent),
            // What it will be.
            false => Config::parse(CONFIG, config, Role::Agent),
        };
        let options = read.map_err(config_file::unusable)?.options;
        let shim = options.shim.to_string();
        let upstreams: Vec<String> = options
            .upstreams
            .iter()
            .map(|upstream| upstream.url.to_string())
            .collect();
        let kept = |url: &String| {
            let url = bare(url);
            url == format!("http://{shim}")
                || upstreams.iter().any(|upstream| bare(upstream) == url)
        };
        // There may be none yet.
        let nix_conf = NixConf::read(nix_conf).unwrap_or_default();
        let named = nix_conf.list("substituters").iter();
        Ok(Self {
            dropped: named.filter(|url| !kept(url)).cloned().collect(),
            shim,
            upstreams,
        })
    }

    fn nix_conf(&self) -> String {
        format!(
            "substituters = http://{}\nnarinfo-cache-negative-ttl = 60\nextra-trusted-substituters = {}\n",
            self.shim,
            self.upstreams.join(" ")
        )
    }

    /// What a person has to do, one line each.
    fn notes(&self, config: &str) -> String {
        let note = |url: &String| match url.starts_with("http://") || url.starts_with("https://") {
            true => format!(
                "Nix has asked {url} so far, which nobody asks any more: add it to [[upstream]] in {config}, with its keys\n"
            ),
            false => format!(
                "Nix has asked {url} so far, which the agent cannot ask: add `extra-substituters = {url}` at its end\n"
            ),
        };
        self.dropped.iter().map(note).collect()
    }
}

/// A URL without what does not tell two caches apart.
fn bare(url: &str) -> &str {
    let url = url.split_once('?').map_or(url, |(url, _)| url);
    url.trim_end_matches('/')
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

    fn script(program: &str, config: &str, nix_conf: &str) -> Result<String, Failure> {
        install(Path::new(program), Path::new(config), Path::new(nix_conf))
    }

    #[test]
    fn nothing_is_left_open() {
        for program in ["/opt/bin/narswarm", "/nix/store/05xf-narswarm/bin/narswarm"] {
            let config = "/etc/narswarm/missing.toml";
            let removal = Places::new(Path::new(program), Path::new(config)).unwrap();
            let scripts = [
                script(program, config, "/nowhere").unwrap(),
                removal.fill(REMOVE),
                refused("a\nb"),
            ];
            for text in scripts {
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
        let cargo = script("/root/.cargo/bin/narswarm", "/etc/a.toml", "/nowhere").unwrap();
        assert!(cargo.contains("install -m 755 /root/.cargo/bin/narswarm /usr/local/bin/narswarm"));
        assert!(cargo.contains("\nExecStart=/usr/local/bin/narswarm agent --config /etc/a.toml\n"));
        assert!(cargo.contains("\nListenStream=127.0.0.1:8642\n"));
        assert!(cargo.contains("\nextra-trusted-substituters = https://cache.nixos.org/\n"));
        let nix = script("/nix/store/05xf-n/bin/narswarm", "/etc/a.toml", "/nowhere").unwrap();
        assert!(nix.contains("--add-root"));
        assert!(nix.contains("\nExecStart=/nix/store/05xf-n/bin/narswarm agent"));
    }

    #[test]
    fn odd_paths_are_refused() {
        for odd in ["/etc/a b.toml", "/etc/$(x).toml", "/etc/'.toml"] {
            assert!(
                script("/usr/bin/narswarm", odd, "/nowhere").is_err(),
                "{odd}"
            );
        }
    }

    #[test]
    fn caches_that_nobody_asks_any_more_are_named() {
        let nix_conf = tempfile::NamedTempFile::new().unwrap();
        let text = "substituters = https://cache.nixos.org?priority=5 http://127.0.0.1:8642 https://mine.example s3://mine\n";
        std::fs::write(nix_conf.path(), text).unwrap();
        let substituter = Substituter::new(Path::new("/nowhere.toml"), nix_conf.path()).unwrap();
        assert_eq!(substituter.dropped, ["https://mine.example", "s3://mine"]);
        let notes = substituter.notes("/a.toml");
        assert!(
            notes.contains("add it to [[upstream]] in /a.toml"),
            "{notes}"
        );
        assert!(
            notes.contains("`extra-substituters = s3://mine`"),
            "{notes}"
        );
    }
}
