#!/usr/bin/env bash
# Builds the image of deploy/Dockerfile on a Debian machine without a container engine and without a registry: the base
# is made by debootstrap, once, and the image by buildah. With an engine, `docker buildx build` does it; see Dockerfile.
#
#   deploy/build-image.sh [-B] [-t NAME] [-a ARCH] [-C DIRECTORY] [-- OPTION OF buildah bud ...]
#
#   -B            make the base only, unless it is there: localhost/ztpipe-base:bookworm-ARCH
#   -t NAME       of the image; default localhost/ztpipe:ARCH
#   -a ARCH       as Debian names it; default that of this machine. Another one needs qemu-user-static, and time.
#   -C DIRECTORY  build that checkout; default the one that this script is in
#
# Behind -- come options of buildah, such as --build-arg VERSION=0.1.0. Needs root and, from Debian,
# buildah podman runc debootstrap. MIRROR in the environment is the Debian mirror, by default the machine's own; PIP_CERT
# a file of certificates, where TLS connections end at a proxy.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
arch=$(dpkg --print-architecture) name='' context=$here base_only=

say() { printf 'build-image: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

while getopts Bt:a:C: option; do
    case $option in
    B) base_only=yes ;;
    t) name=$OPTARG ;;
    a) arch=$OPTARG ;;
    C) context=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
name=${name:-localhost/ztpipe:$arch}
base=localhost/ztpipe-base:bookworm-$arch

((EUID == 0)) || fail "needs root"
for program in buildah podman runc debootstrap; do
    command -v "$program" >/dev/null || fail "$program is missing: apt-get install buildah podman runc debootstrap"
done

# What apt itself is told: the first deb line or URIs: field of the machine.
mirror() {
    sed -n 's/^URIs: *\([^ ]*debian\/\?\)$/\1/p; s/^deb \(\[[^]]*\] \)\?\([^ ]*debian\/\?\) .*/\2/p' \
        /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | head -n 1
}

# A foreign architecture runs in qemu, which the kernel must know of.
emulate() {
    [[ -e /proc/sys/fs/binfmt_misc/register ]] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
    case $1 in arm64) qemu=qemu-aarch64 ;; armhf) qemu=qemu-arm ;; *) qemu=qemu-$1 ;; esac
    [[ -e /proc/sys/fs/binfmt_misc/$qemu ]] || update-binfmts --import "$qemu" >/dev/null 2>&1 || true
    [[ -e /proc/sys/fs/binfmt_misc/$qemu ]] || update-binfmts --enable "$qemu" >/dev/null 2>&1 || true
    [[ -e /proc/sys/fs/binfmt_misc/$qemu ]] || fail "cannot run $1 programs: apt-get install qemu-user-static binfmt-support"
}

[[ $arch = "$(dpkg --print-architecture)" ]] || emulate "$arch"

scratch=$(mktemp -d "${TMPDIR:-/var/tmp}/build-image.XXXXXX")
trap 'rm -rf "$scratch"' EXIT
if ! podman image exists "$base"; then
    from=${MIRROR:-$(mirror)}
    say "making $base from ${from:=http://deb.debian.org/debian}"
    debootstrap --variant=minbase --arch="$arch" bookworm "$scratch/root" "$from" >"$scratch/log" 2>&1 ||
        { tail -n 5 "$scratch/log" >&2; fail "debootstrap failed"; }
    tar -C "$scratch/root" -c . | podman import --quiet --arch "$arch" - "$base" >/dev/null
    rm -rf "$scratch/root"
fi
[[ -z $base_only ]] || exit 0

options=()
if [[ -n ${PIP_CERT:-} ]]; then
    # There only while it is built: neither a layer nor the environment of the image has it.
    options+=(--volume "$(realpath "$PIP_CERT"):/run/pip-cert.crt:ro" --build-arg PIP_CERT=/run/pip-cert.crt)
fi
say "building $name"
# Only the docker format has health checks. chroot isolation and these limits are what works without systemd and with cgroups of either kind.
buildah bud --format docker --isolation chroot --network host --ulimit nofile=1024:1024 --arch "$arch" --pull=never --layers \
    --build-arg BASE="$base" "${options[@]}" "$@" -t "$name" -f "$context/deploy/Dockerfile" "$context"
