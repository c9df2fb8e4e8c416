//! `narswarm setup`: what a machine with Nix but without NixOS needs, to read and to copy.

use std::path::Path;

use crate::config::{Config, Role};

use super::args::SetupArgs;
use super::exit::Failure;

pub fn run(args: &SetupArgs) -> Result<(), Failure> {
    // Without a configuration yet, the defaults are shown.
    let shim = match args.config.exists() {
        true => {
            Config::read(&args.config, Role::Agent)
                .map_err(Failure::usage)?
                .options
                .shim
        }
        false => ([127, 0, 0, 1], 8642).into(),
    };
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/narswarm".into());
    print!("{}", text(&shim.to_string(), &program, &args.config));
    Ok(())
}

fn text(shim: &str, program: &Path, config: &Path) -> String {
    let (program, config) = (program.display(), config.display());
    format!(
        "# 1. In /etc/nix/nix.conf. The agent passes everything else on to the caches in its own configuration; a second
#    cache listed here costs 15 to 55 s per command when DNS is dead. trusted-public-keys stays as it is.
substituters = http://{shim}
narinfo-cache-negative-ttl = 60

# 2. As /etc/systemd/system/narswarm.service, then: systemctl enable --now narswarm; systemctl restart nix-daemon
[Unit]
Description=narswarm agent: Nix packages from the swarm
After=network.target
Before=nix-daemon.service

[Service]
Type=notify
WatchdogSec=60
ExecStart={program} agent --config {config}
DynamicUser=yes
StateDirectory=narswarm
CacheDirectory=narswarm
RuntimeDirectory=narswarm
Restart=on-failure
RestartSec=5
TimeoutStopSec=10
Nice=10
IOSchedulingClass=idle
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RestrictAddressFamilies=AF_INET AF_INET6 AF_NETLINK AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
UMask=0022

[Install]
WantedBy=multi-user.target

# If the agent is ever broken: nix-build --option substituters https://cache.nixos.org ...
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_parts_name_what_was_given() {
        let text = text(
            "127.0.0.1:9",
            Path::new("/opt/narswarm"),
            Path::new("/etc/a.toml"),
        );
        assert!(text.contains("substituters = http://127.0.0.1:9\n"));
        assert!(text.contains("ExecStart=/opt/narswarm agent --config /etc/a.toml\n"));
    }
}
