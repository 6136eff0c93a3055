#!/bin/sh
# Healthy when the node answers and every network that the container was started with is OK.
home=${ZEROTIER_HOME:-/var/lib/zerotier-one}
[ -f "$home/.healthcheck" ] || exit 1
zerotier-cli "-D$home" info >/dev/null || exit 1
while read -r network; do
    [ "$(zerotier-cli "-D$home" get "$network" status)" = OK ] || exit 1
done <"$home/.healthcheck"
