#!/bin/sh
# narswarm for a Linux with Nix and systemd. Read it, then run it as root:
#   narswarm setup | sudo sh              `narswarm setup --remove | sudo sh` takes it all back
set -eu

# 1. The program, where a service can see it.
@INSTALL@

# 2. Its configuration; what is there already stays.
mkdir -p @CONFIG_DIRECTORY@
[ -e @CONFIG@ ] || cat > @CONFIG@ <<'END'
@CONFIG_TEXT@END
@PROGRAM@ check-config --role agent @CONFIG@

# 3. The service, and the socket that holds the port for it.
cat > /etc/systemd/system/narswarm-agent.socket <<'END'
@SOCKET@END
cat > /etc/systemd/system/narswarm-agent.service <<'END'
@SERVICE@END
systemctl daemon-reload
systemctl enable --now narswarm-agent.socket
systemctl enable narswarm-agent.service
systemctl restart narswarm-agent.service

# 4. Nix asks the agent, and nobody else: with dead DNS every further cache costs 15 to 55 s per command. The agent asks
#    the caches in its own configuration. trusted-public-keys stays as it is. The last line lets every user go past an
#    agent that is broken: --option substituters https://cache.nixos.org
cat > /etc/nix/narswarm.conf <<'END'
@NIX_CONF@END
grep -qxF '!include narswarm.conf' /etc/nix/nix.conf 2>/dev/null || echo '!include narswarm.conf' >> /etc/nix/nix.conf
systemctl try-restart nix-daemon.service

echo 'narswarm runs: narswarm status'
