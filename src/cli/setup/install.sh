#!/bin/sh
# narswarm for a Linux with Nix and systemd. Read it, then run it as root:
#   narswarm setup | sudo sh              `narswarm setup --remove | sudo sh` takes it all back
set -eu
[ "$(id -u)" = 0 ] || { echo 'narswarm setup: run this script as root' >&2; exit 1; }

# 1. What the agent would refuse to start with stops everything, before anything is changed.
[ ! -e @CONFIG@ ] || @SOURCE@ check-config --role agent @CONFIG@

# 2. The program, where a service can see it.
@INSTALL@

# 3. Its configuration; what is there already stays.
mkdir -p @CONFIG_DIRECTORY@
[ -e @CONFIG@ ] || cat > @CONFIG@ <<'END'
@CONFIG_TEXT@END

# 4. The service, and the socket that holds the port for it.
cat > /etc/systemd/system/narswarm-agent.socket <<'END'
@SOCKET@END
cat > /etc/systemd/system/narswarm-agent.service <<'END'
@SERVICE@END
systemctl daemon-reload
# One that could not start before may try again.
systemctl reset-failed narswarm-agent.socket narswarm-agent.service 2>/dev/null || true
systemctl enable --now narswarm-agent.socket
systemctl enable narswarm-agent.service
systemctl restart narswarm-agent.service

# 5. Nix asks the agent, and nobody else: with dead DNS every further cache costs 15 to 55 s per command. The agent asks
#    the caches in its own configuration. trusted-public-keys stays as it is. The last line lets every user go past an
#    agent that is broken: --option substituters https://cache.nixos.org
mkdir -p /etc/nix
cat > /etc/nix/narswarm.conf <<'END'
@NIX_CONF@END
if ! grep -qxF '!include narswarm.conf' /etc/nix/nix.conf 2>/dev/null; then
    # A last line without an end would become one with ours.
    [ -z "$(tail -c 1 /etc/nix/nix.conf 2>/dev/null)" ] || echo >> /etc/nix/nix.conf
    echo '!include narswarm.conf' >> /etc/nix/nix.conf
fi
# A Nix for one user has no daemon.
systemctl try-restart nix-daemon.service || true

cat <<'END'
@NOTES@narswarm runs: narswarm status
END
