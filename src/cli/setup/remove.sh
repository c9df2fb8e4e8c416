#!/bin/sh
# Takes back what `narswarm setup` did. Nothing is lost that cannot be fetched again, except the highest sequence seen of
# each channel. The configuration stays: @CONFIG@
set -eu
[ ! -e /etc/nix/nix.conf ] || sed -i '/^!include narswarm\.conf$/d' /etc/nix/nix.conf
rm -f /etc/nix/narswarm.conf
systemctl try-restart nix-daemon.service
systemctl disable --now narswarm-agent.socket narswarm-agent.service
rm -f /etc/systemd/system/narswarm-agent.socket /etc/systemd/system/narswarm-agent.service
systemctl daemon-reload
rm -rf /var/lib/narswarm /var/lib/private/narswarm /var/cache/narswarm /var/cache/private/narswarm
@UNINSTALL@
