#!/bin/sh
# Takes back what `narswarm setup` did, also when it was done in part. Nothing is lost that cannot be fetched again, except
# the highest sequence seen of each channel. What you wrote stays: @CONFIG@, and drop-ins of the service.
set -eu
[ "$(id -u)" = 0 ] || { echo 'narswarm setup --remove: run this script as root' >&2; exit 1; }
# The line may have become one with a line that had no end.
[ ! -e /etc/nix/nix.conf ] ||
    sed -i --follow-symlinks -e '/^!include narswarm\.conf$/d' -e 's/!include narswarm\.conf$//' /etc/nix/nix.conf
rm -f /etc/nix/narswarm.conf
# What is not there need not be stopped.
systemctl try-restart nix-daemon.service || true
systemctl disable --now narswarm-agent.socket narswarm-agent.service || true
rm -f /etc/systemd/system/narswarm-agent.socket /etc/systemd/system/narswarm-agent.service
systemctl daemon-reload
systemctl reset-failed narswarm-agent.socket narswarm-agent.service 2>/dev/null || true
rm -rf /var/lib/narswarm /var/lib/private/narswarm /var/cache/narswarm /var/cache/private/narswarm
@UNINSTALL@
