#!/bin/sh
# Entry point of the container: the arguments are networks to join; then the node runs until it is told to stop.
#
#   ZEROTIER_JOIN_NETWORKS       further networks, separated by blanks
#   ZEROTIER_API_SECRET          content of authtoken.secret
#   ZEROTIER_IDENTITY_PUBLIC     content of identity.public
#   ZEROTIER_IDENTITY_SECRET     content of identity.secret
#   ZEROTIER_HOME                home directory, default /var/lib/zerotier-one
#
# Each of the first four may be given as <name>_FILE instead, the path of a file that holds it (a mounted secret).
# Every start writes the files that are given and adds the networks that are missing, so a second start changes nothing.
set -euf

home=${ZEROTIER_HOME:-/var/lib/zerotier-one}
export ZEROTIER_HOME="$home"

say() { printf '=> %s\n' "$*"; }
fail() { printf 'entrypoint: %s\n' "$*" >&2; exit 1; }

# The value of the variable $1, or of the file that $1_FILE names, without blanks and line ends around it.
setting() {
    eval "value=\${$1:-} file=\${$1_FILE:-}"
    if [ -n "$value" ] && [ -n "$file" ]; then
        fail "$1 and $1_FILE are both set: unset one of them"
    fi
    if [ -n "$file" ]; then
        [ -r "$file" ] || fail "$1_FILE: $file cannot be read"
        value=$(cat "$file")
    fi
    # Unquoted on purpose: splitting and joining is what strips. None of these values has inner blanks.
    # shellcheck disable=SC2086
    set -- $value
    printf '%s' "$*"
}

# Write $3 to the file $1 with mode $2, whole or not at all, without a newline at its end.
store() {
    [ -n "$3" ] || return 0
    (umask 077; printf '%s' "$3" >"$home/.$1.entrypoint") || fail "$home/$1 cannot be written"
    chmod "$2" "$home/.$1.entrypoint"
    mv -f "$home/.$1.entrypoint" "$home/$1"
    say "$1 written"
}

mkdir -p "$home/networks.d" || fail "$home cannot be written: mount a volume or a tmpfs there"
[ -c /dev/net/tun ] || [ "${ZTPIPE_REQUIRE_TAP:-true}" = false ] ||
    fail "/dev/net/tun is missing: run the container with --device /dev/net/tun --cap-add NET_ADMIN"

# Assigned before they are used: an exit status inside an argument would be lost.
token=$(setting ZEROTIER_API_SECRET)
public=$(setting ZEROTIER_IDENTITY_PUBLIC)
secret=$(setting ZEROTIER_IDENTITY_SECRET)
networks=$(setting ZEROTIER_JOIN_NETWORKS)
store authtoken.secret 0600 "$token"
store identity.public 0644 "$public"
store identity.secret 0600 "$secret"
unset token public secret value ZEROTIER_API_SECRET ZEROTIER_IDENTITY_SECRET

: >"$home/.healthcheck"
# shellcheck disable=SC2086  # a list of words
for network in "$@" $networks; do
    case $network in
    *[!0-9a-fA-F]*) valid=no ;;
    ????????????????) valid=yes ;;
    *) valid=no ;;
    esac
    if [ $valid = no ]; then
        printf 'entrypoint: "%s" is not a network ID of 16 hexadecimal digits; not joined\n' "$network" >&2
        continue
    fi
    network=$(printf '%s' "$network" | tr A-F a-f)
    [ -e "$home/networks.d/$network.conf" ] || : >"$home/networks.d/$network.conf"
    printf '%s\n' "$network" >>"$home/.healthcheck"
    say "joining $network"
done

# A file of a container that was killed: its number may be that of any process here.
rm -f "$home/zerotier-one.pid"

# The node is what the container is: it becomes process 1, gets SIGTERM itself, saves its state and ends with status 0.
if [ "$(id -u)" = 0 ]; then
    exec zerotier-one "$home"
fi
exec zerotier-one -U "$home"
